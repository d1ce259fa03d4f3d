"""What every test may use: the real data where it is, and Hypothesis with fixed seeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

ROOT = Path(__file__).resolve().parents[1]


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
