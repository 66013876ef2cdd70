"""Runs blocking calls in threads, away from the event loop.

Each call gets a new daemon thread. A thread that hangs in the kernel, for example on a dead network mount, then neither
prevents the process from ending nor occupies a worker of a pool.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run `function` in a new thread. The future gets its result or exception.

    Cancelling the future does not stop the thread; its result is dropped.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(function, outcome), daemon=True).start()
    return asyncio.wrap_future(outcome)


def _run(function: Callable[[], T], outcome: Future[T]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
        outcome.set_exception(error)
