"""A lock that one process holds at a time, and that goes with it however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["at_work", "taken"]


def taken(file: int) -> bool:
    """Take the lock on an open file or folder, without waiting; False while another holds it.

    It is held until the file is closed. Raises OSError on file systems without locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def at_work(directory: Path) -> bool:
    """Whether another process works in a run's or a sweep's folder; False where that cannot be told."""
    try:
        handle = os.open(directory / "parts", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        return not taken(handle)
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
