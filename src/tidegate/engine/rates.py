"""Computes rates from counters. Pure: counters and a monotonic time in, rates per second out."""

import math
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

MIN_INTERVAL_S = 0.05
"""The shortest time between two readings. Over a shorter one the rate would be too noisy, so the last one is kept."""

Key = TypeVar("Key", bound=Hashable)


class RateMeter(Generic[Key]):
    """Computes rates of a set of counters. It remembers the last reading and its rates."""

    __slots__ = ("_at", "_counters", "_rates")

    def __init__(self) -> None:
        self._at = -math.inf
        self._counters: Mapping[Key, float] = {}
        self._rates: Mapping[Key, float | None] = {}

    def measure(self, counters: Mapping[Key, float], *, now: float) -> Mapping[Key, float | None]:
        """Return how fast each of `counters` grew since the last reading, per second. `now` is monotonic, in seconds.

        A rate is None at the first reading of a counter, and if the counter went backwards because it wrapped or
        restarted. A reading less than `MIN_INTERVAL_S` after the last one returns the last rates and is not remembered.
        """
        elapsed_s = now - self._at
        if elapsed_s >= MIN_INTERVAL_S:
            self._rates = {key: _rate(self._counters.get(key), count, elapsed_s) for key, count in counters.items()}
            self._counters = dict(counters)
            self._at = now
        return {key: self._rates.get(key) for key in counters}


def _rate(before: float | None, after: float, elapsed_s: float) -> float | None:
    if before is None or after < before:
        return None
    return (after - before) / elapsed_s
