"""A lock that one process holds at a time, and that goes with it however it ends."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path

from lazaretto.errors import InputError

__all__ = ["Held", "hold", "refuse_at_work", "taken"]

_LOCKS = Path("/proc/locks")  # where Linux says who holds which; elsewhere nobody does
_TRIES, _PAUSE_SECONDS = 4, 0.02  # of taking a lock, since who only looks holds one for a moment, too


class Held:
    """A lock on a folder, until `release` or until nobody knows this any more; of None, no lock."""

    def __init__(self, handle: int | None = None) -> None:
        self._end = None if handle is None else weakref.finalize(self, os.close, handle)

    def release(self) -> None:
        """Let it go; more than once does no harm."""
        if self._end is not None:
            self._end()


def hold(folder: Path, about: Path) -> Held:
    """Lock a folder; on file systems without locks it goes on without one.

    about: the folder as the user knows it. Raises InputError, with the process where it is known, while
    another holds it, and where the folder has gone.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise _busy(about, None) from None  # it was there a moment ago: another has just finished with it
    try:
        alone = _taken_soon(handle)
    except OSError:
        return Held(handle)
    if alone and _is_there(handle, folder):
        return Held(handle)
    who = None if alone else _holder(handle)
    os.close(handle)
    raise _busy(about, who)


def taken(file: int) -> bool:
    """Take the lock on an open file or folder, without waiting; False while another holds it.

    It is held until the file is closed. Raises OSError on file systems without locks.
    """
    return _locked(file, fcntl.LOCK_EX)


def refuse_at_work(
    directory: Path, way_out: str = "wait until it is done, or write elsewhere with --out"
) -> None:
    """Raise InputError while another process works in a run's or a sweep's folder, as far as can be told."""
    try:
        handle = os.open(directory / "parts", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        if not _locked(handle, fcntl.LOCK_SH):  # shared: two that look are not in each other's way
            raise _busy(directory, _holder(handle), way_out)
    except OSError:  # a file system without locks
        return
    finally:
        os.close(handle)


def _locked(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken_soon(file: int) -> bool:
    for _ in range(_TRIES - 1):
        if taken(file):
            return True
        time.sleep(_PAUSE_SECONDS)
    return taken(file)


def _is_there(file: int, folder: Path) -> bool:
    """Whether an open folder is the one of that name, and not one that was deleted meanwhile."""
    try:
        return os.path.samestat(os.fstat(file), folder.stat())
    except OSError:
        return False


def _busy(
    folder: Path, who: int | None, way_out: str = "wait until it is done, or choose another --out"
) -> InputError:
    """who: number of the process at work, where it is known."""
    one = "" if who is None else f": process {who}{', which is this one' if who == os.getpid() else ''}"
    return InputError("another process is at work in this folder", found=f"{folder}{one}", way_out=way_out)


def _holder(file: int) -> int | None:
    """Number of the process that holds the lock; None where the system does not say."""
    told = os.fstat(file)
    named = f"{os.major(told.st_dev):02x}:{os.minor(told.st_dev):02x}:{told.st_ino}"
    try:
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:  # such as "1: FLOCK  ADVISORY  WRITE 8872 fe:00:260072 0 EOF"
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == named and words[4].isdigit():
            return int(words[4]) or None  # 0: in another container
    return None
