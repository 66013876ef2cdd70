"""Calls that may block, away from the event loop.

The threads are daemons: one that hangs in the kernel, as on a dead network mount, neither keeps the process from
ending nor takes the place of another in a pool.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run `function` in a thread of its own; the future has what it returns or raises.

    Cancelling the future forgets the outcome; the thread runs on to its end.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(function, outcome), daemon=True).start()
    return asyncio.wrap_future(outcome)


def _run(function: Callable[[], T], outcome: Future[T]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it
        outcome.set_exception(error)
