"""What every test may use: the real data where it is, Hypothesis with fixed seeds, one device of JAX."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

# Before any test module computes something, so that what a test gets depends neither on which others are
# collected nor on the machine; runs in a process of their own use all cores.
jax.config.update("jax_num_cpu_devices", 1)
jax.devices()

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first: no process is left with a long one when the others have nothing more to do."""
    items.sort(key=lambda item: item.path.parent.name != "run")


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """What a file compiled goes from memory with it: by the end it would be gigabytes in each process."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Callable[[str], Path]:
    """`data_folder("x-iomt")`: a folder of real data, or the test is skipped because it is not there."""

    def find(name: str) -> Path:
        given = os.environ.get("LAZARETTO_DATA")
        folder = (Path(given) if given else ROOT.parent / "shared" / "data") / name
        if not folder.is_dir():  # the data's licences keep it out of the repository
            pytest.skip(f"real data '{name}' is neither in $LAZARETTO_DATA nor in ../shared/data")
        return folder

    return find
