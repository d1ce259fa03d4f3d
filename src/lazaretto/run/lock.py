"""A lock that one process holds at a time, and that goes with it however it ends."""

from __future__ import annotations

import fcntl

__all__ = ["taken"]


def taken(file: int) -> bool:
    """Take the lock on an open file or folder, without waiting; False while another holds it.

    It is held until the file is closed. Raises OSError on file systems without locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
