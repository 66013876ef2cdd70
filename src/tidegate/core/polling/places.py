"""The queue for a backend that accepts a limited number of calls at once.

The next to be called is a probe, or else the waiter whose last call is longest ago, or else the one that came first. So
a device that serves one connection at a time serves all its sources in turn, however short their intervals are.
Knows nothing about calls; times are only compared.
"""

import heapq
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Places(Generic[T]):
    """The `count` places of one backend. `next` takes one; each must be given back with `leave`, once."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[_Waiting[T]] = []
        self._came = 0

    def resize(self, by: int) -> None:
        """There are `by` more places from now on, or fewer if it is negative. Those that are taken stay taken."""
        self._free += by

    def wait(self, who: T, *, asked_at: float, probes: bool) -> None:
        """Add `who` to the queue. `asked_at` is when it was last called, by any clock; `probes` puts it in front."""
        self._came += 1
        heapq.heappush(self._waiting, _Waiting(not probes, asked_at, self._came, who))

    def next(self) -> T | None:
        """Take a place for the first in the queue, and return it. None if no place is free or nothing is waiting."""
        if self._free <= 0 or not self._waiting:
            return None
        self._free -= 1
        return heapq.heappop(self._waiting).who

    def take(self) -> bool:
        """Take a place without waiting, if one is free that nobody waits for. Return whether that is so."""
        if not self.has_room:
            return False
        self._free -= 1
        return True

    @property
    def has_room(self) -> bool:
        """Whether a place is free that nobody waits for."""
        return self._free > 0 and not self._waiting

    def leave(self) -> None:
        """Give a place back."""
        self._free += 1

    def withdraw(self, leaves: Callable[[T], bool]) -> list[T]:
        """Remove those for which `leaves` is true from the queue, and return them in the order of the queue."""
        line, self._waiting = sorted(self._waiting), []  # what stays is appended in order, so it is a heap again
        gone = []
        for waiting in line:
            if leaves(waiting.who):
                gone.append(waiting.who)
            else:
                self._waiting.append(waiting)
        return gone


class _Waiting(NamedTuple, Generic[T]):
    """An entry of the queue. Its number is unique, so that comparing two entries never compares `who`."""

    follows_probes: bool
    asked_at: float
    number: int
    who: T
