"""Runs one blocking function in a thread of its own, where it may hang without harm to anything else.

The event loop's own threads will not do: they are few, everybody shares them, and the end of the process waits for
them. A file on a server that is gone can block a thread for minutes.
"""

import asyncio
import contextlib
import errno
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

IDLE_S = 10.0
"""After how many seconds without a run the thread ends. Starting one costs more than a short run."""

_T = TypeVar("_T")


class OwnThread(Generic[_T]):
    """Runs `work` in a daemon thread, one run at a time. For use in one event loop.

    Who comes during a run waits for that one. Cancelling ends only the waiting. The thread starts with the first run.
    Nothing needs to be closed: it ends `IDLE_S` seconds after the last run, and never keeps the process alive.
    """

    def __init__(self, work: Callable[[], _T], *, name: str) -> None:
        self._work = work
        self._name = name
        self._under_way: asyncio.Future[_T] | None = None
        self._wanted: queue.SimpleQueue[asyncio.Future[_T]] = queue.SimpleQueue()
        self._lives = False
        self._lock = threading.Lock()  # for `_lives`

    async def run(self) -> _T:
        """Return what `work` returns, or raise what it raises. Raises `OSError` if no thread can be started."""
        if self._under_way is None or self._under_way.done():
            self._under_way = self._begin()
        return await asyncio.shield(self._under_way)

    def _begin(self) -> asyncio.Future[_T]:
        with self._lock:
            if not self._lives:
                start(self._serve, name=self._name)
                self._lives = True
            wanted: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
            self._wanted.put(wanted)
        return wanted

    def _serve(self) -> None:
        while True:
            try:
                wanted = self._wanted.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._wanted.empty():
                        self._lives = False
                        return
                continue
            fulfil(wanted, self._work)


def start(target: Callable[[], None], *, name: str) -> None:
    """Start a daemon thread, which never keeps the process alive. Raises `OSError` if there can be no more threads."""
    try:
        threading.Thread(target=target, name=name, daemon=True).start()
    except RuntimeError as exc:
        raise OSError(errno.EAGAIN, f"no thread to {name}") from exc


def fulfil(wanted: asyncio.Future[_T], work: Callable[[], _T]) -> None:
    """Do `work` in this thread, and give what it returns or raises to `wanted`, whose event loop may be closed."""
    settle: Callable[[], None]
    try:
        result = work()
    except Exception as exc:  # noqa: BLE001 - passed on to the waiting tasks
        error = exc
        settle = lambda: _fail(wanted, error)  # noqa: E731
    else:
        settle = lambda: wanted.set_result(result)  # noqa: E731
    with contextlib.suppress(RuntimeError):  # the loop has been closed
        wanted.get_loop().call_soon_threadsafe(settle)


def _fail(wanted: asyncio.Future[_T], error: Exception) -> None:
    wanted.set_exception(error)
    wanted.exception()  # marks it as retrieved: all waiting tasks may have been cancelled
