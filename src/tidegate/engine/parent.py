"""Ending with the process that started this one, however that ends. No orphan stays behind."""

import asyncio
import ctypes
import os
import signal
import stat
import sys
from collections.abc import Callable

STDIN = 0
PR_SET_PDEATHSIG = 1


def end_with_parent(stop: Callable[[], None]) -> None:
    """Tie this process to the one that started it. Call it in the event loop, once.

    Besides `be_killed_with_parent`, where standard input is a pipe, `stop` is called when its other end closes: so a
    parent that had died before this call is noticed too, and other systems are served. The parent writes nothing and
    keeps the pipe open.
    """
    be_killed_with_parent()
    mode = os.fstat(STDIN).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        asyncio.get_running_loop().add_reader(STDIN, _read, stop)


def be_killed_with_parent() -> None:
    """Linux kills this process when the thread that started it ends; it works even while this process is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _read(stop: Callable[[], None]) -> None:
    if not os.read(STDIN, 4096):
        asyncio.get_running_loop().remove_reader(STDIN)
        stop()
