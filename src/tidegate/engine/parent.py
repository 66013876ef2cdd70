"""Ends this process when its parent process ends, however that happens, so that no orphan stays behind."""

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
    """End this process when its parent ends. Call it once, in the event loop.

    This calls `be_killed_with_parent`. If standard input is a pipe, it also calls `stop` when the other end closes.
    The pipe covers a parent that died before this call, and systems other than Linux. The parent must keep the pipe
    open and write nothing to it.
    """
    be_killed_with_parent()
    mode = os.fstat(STDIN).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        asyncio.get_running_loop().add_reader(STDIN, _read, stop)


def be_killed_with_parent() -> None:
    """Make Linux kill this process when the thread that started it ends, even if this process is suspended then."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _read(stop: Callable[[], None]) -> None:
    if not os.read(STDIN, 4096):
        asyncio.get_running_loop().remove_reader(STDIN)
        stop()
