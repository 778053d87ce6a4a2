"""Starts a script in a toolchain's environment; the process dies with the one that asked for it.

It runs in the environment's own Python, by its path, and so imports nothing of fxc.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def main() -> None:
    """``guard.py PARENT SCRIPT ARGUMENTS…``: run the script as the main program."""
    parent, script = int(sys.argv[1]), sys.argv[2]
    _die_with(parent)
    sys.argv = sys.argv[2:]
    runpy.run_path(script, run_name="__main__")


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    # It may have died before the line above.
    if os.getppid() != parent:
        sys.exit("the process that asked for this is gone")


if __name__ == "__main__":
    main()
