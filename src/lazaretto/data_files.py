"""All files that a source may read in a place, also by way of linked folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["files_under", "lies_in"]


def files_under(place: Path, unreadable: Callable[[OSError], None] | None = None) -> list[Path]:
    """Every file in a folder and those below it, sorted; what is no folder alone is itself.

    Linked folders are entered, as loaders do, but not those that lead back to one above them: there is
    nothing new. unreadable: called with the error of a folder that cannot be read; without it that is
    passed over.
    """
    if not place.is_dir():
        return [place]
    found = ((folder / name) for folder, names in _walk(place, unreadable) for name in names)
    return sorted(file for file in found if file.is_file())


def lies_in(place: Path, folder: Path) -> bool:
    """Whether a file, written there or not, is the folder (or file), or is in it; links are followed.

    Also where only a linked folder below leads to it.
    """
    whole = place.resolve()
    if whole.is_relative_to(folder.resolve()):
        return True
    return any(one.is_symlink() and whole.is_relative_to(one.resolve()) for one, _ in _walk(folder, None))


def _walk(place: Path, unreadable: Callable[[OSError], None] | None) -> Iterator[tuple[Path, list[str]]]:
    """Each folder, the place first, and the names of what in it is no folder."""
    for folder, folders, names in os.walk(place, followlinks=True, onerror=unreadable):
        here = Path(folder)
        above = {up.resolve() for up in (here, *here.parents)}
        folders[:] = [name for name in folders if not _leads_back(here / name, above)]
        yield here, names


def _leads_back(folder: Path, above: set[Path]) -> bool:
    return folder.is_symlink() and folder.resolve() in above
