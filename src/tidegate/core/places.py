"""Who is next where a backend takes only so many calls at once.

Whoever has to wait is asked in this order: a probe first, then who was asked longest ago, then who came first. So a
device that serves one connection at a time serves each of its sources in turn, however short their intervals are.
Knows nothing of calls, and nothing of time beyond comparing it.
"""

import heapq
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Places(Generic[T]):
    """The places of one backend. Each is taken with `next` and given back with `leave`, once."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[_Waiting[T]] = []
        self._came = 0

    def wait(self, who: T, *, asked_at: float, probes: bool) -> None:
        """Line up. `asked_at` is when `who` was asked last, on any clock: the least is next, after those that probe."""
        self._came += 1
        heapq.heappush(self._waiting, _Waiting(not probes, asked_at, self._came, who))

    def next(self) -> T | None:
        """Whose turn it is, who has a place from now on; None without a free place, or with nobody waiting."""
        if not self._free or not self._waiting:
            return None
        self._free -= 1
        return heapq.heappop(self._waiting).who

    def leave(self) -> None:
        """A place is free again."""
        self._free += 1

    def withdraw(self, leaves: Callable[[T], bool]) -> list[T]:
        """Take those who `leaves` names out of the line, without a place; they are returned in its order."""
        line, self._waiting = sorted(self._waiting), []
        gone = []
        for waiting in line:
            if leaves(waiting.who):
                gone.append(waiting.who)
            else:
                self._waiting.append(waiting)
        return gone


class _Waiting(NamedTuple, Generic[T]):
    """A place in the line. No two have the same number, so that comparing never gets as far as `who`."""

    follows_probes: bool
    asked_at: float
    number: int
    who: T
