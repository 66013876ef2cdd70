"""Standard input, output and error of a process whose parent has closed some of them.

Python sets `sys.stderr` and its like to None then, and whoever writes to it fails. And the next file that is opened
gets the free number, so that a message for standard error would end up in a database or at a client.
"""

import os
import sys

_STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_missing() -> None:
    """Open the null device in the place of each standard stream that is closed. Call it before any file is opened.

    What is written there is dropped: it is what the parent asked for.
    """
    for number, name, mode in _STREAMS:
        if _is_closed(number):
            # The lowest free number: those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = open(number, mode, errors="backslashreplace", closefd=False)  # noqa: SIM115 - for the whole process
            setattr(sys, name, stream)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
