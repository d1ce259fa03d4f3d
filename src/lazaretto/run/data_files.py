"""All files that a source may read in a place, also by way of linked folders."""

from __future__ import annotations

import os
from pathlib import Path

from lazaretto.errors import DataError

__all__ = ["files_under"]


def files_under(place: Path) -> list[Path]:
    """Every file in a folder and those below it, sorted; a file alone is itself. Links are followed.

    Raises DataError where a linked folder leads back to one above it, or there is no file at all.
    """
    if not place.is_dir():
        return [place]
    found: list[Path] = []
    for folder, folders, names in os.walk(place, followlinks=True):
        here = Path(folder)
        for one in (here / name for name in folders):
            if one.is_symlink() and one.resolve() in {up.resolve() for up in (here, *here.parents)}:
                raise DataError(
                    "a linked folder of the data leads back to one above it",
                    found=one,
                    way_out="remove the link",
                )
        found += [here / name for name in names if (here / name).is_file()]
    if not found:
        raise DataError(
            "there is no file in the folder of the data", found=place, way_out="give another data.path"
        )
    return sorted(found)
