"""Timeouts of connections: one timer for all that wait for the same thing, and one for each transport that is full."""

import asyncio
from collections.abc import Callable, Hashable
from itertools import takewhile
from typing import Generic, TypeVar

Waiting = TypeVar("Waiting", bound=Hashable)


class Deadlines(Generic[Waiting]):
    """Calls `overdue` with each object that has waited for `after_s` seconds.

    All wait equally long, so the first to begin is the first to be due, and one timer serves them all. A timer for each
    of 10,000 connections would cost more.
    """

    def __init__(self, after_s: float, overdue: Callable[[Waiting], None]) -> None:
        self.after_s = after_s
        self._overdue = overdue
        self._loop = asyncio.get_running_loop()
        self._due: dict[Waiting, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def change(self, after_s: float) -> None:
        """Wait that long from now on. Those that are waiting already are due that much sooner or later, too."""
        later_s = after_s - self.after_s
        self.after_s = after_s
        self._due = {waiting: due + later_s for waiting, due in self._due.items()}
        if self._timer is not None:
            self._timer.cancel()
            self._end_overdue()

    def __contains__(self, waiting: Waiting) -> bool:
        return waiting in self._due

    def begin(self, waiting: Waiting) -> None:
        """Start the timeout of `waiting`, unless it is running already."""
        if waiting not in self._due:
            self._due[waiting] = due = self._loop.time() + self.after_s
            if self._timer is None:
                self._timer = self._loop.call_at(due, self._end_overdue)

    def stop(self, waiting: Waiting) -> None:
        """Stop the timeout of `waiting`, if it is running."""
        # The timer stays: it finds nobody overdue, and is set again for the next.
        self._due.pop(waiting, None)

    def cancel(self) -> None:
        """Stop all timeouts for good."""
        if self._timer is not None:
            self._timer.cancel()

    def _end_overdue(self) -> None:
        now = self._loop.time()
        for waiting, _ in list(takewhile(lambda entry: entry[1] <= now, self._due.items())):
            del self._due[waiting]
            self._overdue(waiting)
        first = next(iter(self._due.values()), None)
        self._timer = None if first is None else self._loop.call_at(first, self._end_overdue)


class FullTransport:
    """Watches a transport whose write buffer is full, until `end`.

    Calls `stuck` if the client reads nothing for `grace_s` seconds, unless `is_excused` returns true then: somebody
    else has a timeout for it.
    """

    def __init__(
        self, transport: asyncio.Transport, *, grace_s: float, is_excused: Callable[[], bool], stuck: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._grace_s = grace_s
        self._is_excused = is_excused
        self._stuck = stuck
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._look_again()

    async def ended(self) -> None:
        """Wait until there is room again, or the transport is lost."""
        await self._ended.wait()

    def end(self) -> None:
        """The transport has drained, or is lost."""
        self._ended.set()
        self._timer.cancel()

    def _look_again(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._grace_s, self._check, unsent)

    def _check(self, unsent: int) -> None:
        if self._is_excused() or self._transport.get_write_buffer_size() < unsent:
            self._look_again()
        else:
            self._stuck()
