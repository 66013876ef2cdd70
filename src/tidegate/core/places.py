"""The queue for a backend's connections: who is next if the backend takes a limited number of calls at once.

The order is: a probe first, then the one that was asked longest ago, then the one that came first. So even a device
with a single connection serves each of its sources in turn, however short their intervals are. Knows nothing of calls,
and only compares times.
"""

import heapq
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Places(Generic[T]):
    """The connections of one backend, `count` of them. Take one with `next`, and give it back with `leave`, once."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[_Waiting[T]] = []
        self._came = 0

    def wait(self, who: T, *, asked_at: float, probes: bool) -> None:
        """Join the queue. `asked_at` is when `who` was asked last, on any clock: the lowest is next, after probes."""
        self._came += 1
        heapq.heappush(self._waiting, _Waiting(not probes, asked_at, self._came, who))

    def next(self) -> T | None:
        """Return the next in the queue, which has a connection from now on; None if none is free, or nobody waits."""
        if not self._free or not self._waiting:
            return None
        self._free -= 1
        return heapq.heappop(self._waiting).who

    def leave(self) -> None:
        """A connection is free again."""
        self._free += 1

    def withdraw(self, leaves: Callable[[T], bool]) -> list[T]:
        """Remove those for which `leaves` is true from the queue. Return them in its order."""
        line, self._waiting = sorted(self._waiting), []
        gone = []
        for waiting in line:
            if leaves(waiting.who):
                gone.append(waiting.who)
            else:
                self._waiting.append(waiting)
        return gone


class _Waiting(NamedTuple, Generic[T]):
    """An entry in the queue. No two have the same number, so comparing them never reaches `who`."""

    follows_probes: bool
    asked_at: float
    number: int
    who: T
