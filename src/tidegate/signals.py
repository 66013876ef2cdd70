"""Signal handling: the first SIGINT or SIGTERM asks the program to stop, the second ends it immediately.

Imports nothing of the package.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(stop: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Call `stop` with the signal, on the running event loop, at the first SIGINT or SIGTERM while the context is open.

    The second signal ends the process immediately, with exit code 128 + its number. When the context ends, both signals
    get their default action back.
    """
    loop = asyncio.get_running_loop()

    def first(received: signal.Signals) -> None:
        stop(received)
        for number in SIGNALS:
            loop.add_signal_handler(number, os._exit, 128 + number)

    for number in SIGNALS:
        loop.add_signal_handler(number, first, number)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            # Not Python's KeyboardInterrupt handler: a late second signal would raise during interpreter shutdown.
            signal.signal(number, signal.SIG_DFL)
