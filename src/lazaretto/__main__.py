"""Where the command line starts: `lazaretto` and `python -m lazaretto`.

Importing the numerical libraries takes a moment. Ctrl-C in that moment ends quietly too, which is why
the rest of the command line is imported here and not at the top.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

__all__ = ["main"]


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(3)  # nothing has begun, and half-imported libraries would complain on the way out


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(importlib.import_module("lazaretto.cli").main())


if __name__ == "__main__":
    main()
