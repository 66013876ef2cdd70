"""What SIGINT and SIGTERM do to a program of ours: the first asks it to end, the second ends it at once.

Imports nothing of the package.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(stop: Callable[[], object]) -> Iterator[None]:
    """While the context is open, call `stop` on the running event loop at the first SIGINT or SIGTERM.

    The second ends the process at once, with exit code 128 + its number. Afterwards a signal does what it does to a
    program that catches none.
    """
    loop = asyncio.get_running_loop()

    def first() -> None:
        stop()
        for number in SIGNALS:
            loop.add_signal_handler(number, os._exit, 128 + number)

    for number in SIGNALS:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # a late second signal meets no half-closed interpreter
