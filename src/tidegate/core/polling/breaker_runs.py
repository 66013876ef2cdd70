"""The runs that a breaker remembers: of failed calls, of its openings, and of the calls within a window.

The data alone: `counting` decides what is counted, and `breaker` when it opens.
"""

from collections import deque
from collections.abc import Iterator
from typing import Self

import msgspec

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker_values import open_period_s
from tidegate.core.polling.carried import CarriedEpisode

FIRST_WAIT_S = 1.0
"""How long knocks wait after the second opening of an episode, in seconds. It doubles with each further one."""


class Run(msgspec.Struct, frozen=True):
    """What is known of a run of failures, beside their count.

    `began` is the monotonic time of the first one. `uncounted` are repetitions that failed and were not counted.
    `came_from` are the sources that the failures came from.
    """

    began: float = LONG_AGO
    uncounted: int = 0
    came_from: frozenset[str] = frozenset()


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """The openings of a breaker that belong together. Times are monotonic.

    `openings` counts how many times a closed breaker has opened since `began`. From `knock_from` on, a connection that
    can be made brings the probe forward. `fruitless` counts the knocks in a row whose probe found no connection.
    """

    began: float
    openings: int
    knock_from: float
    fruitless: int = 0

    @classmethod
    def after(cls, before: Self | None, now: Instant, *, open_max_s: float, jitter: float) -> Self:
        """A closed breaker opens `now`: begin an episode, or go on with the one `before`, if that has not ended.

        A backend that comes and goes several times a minute would otherwise close and open its breaker each time. So
        from the second opening on knocks have to wait. `jitter` is in [0, 1).
        """
        if before is None:
            return cls(began=now.mono, openings=1, knock_from=now.mono)
        wait_s = open_period_s(before.openings, open_s=FIRST_WAIT_S, open_max_s=open_max_s, jitter=jitter)
        return cls(began=before.began, openings=before.openings + 1, knock_from=now.mono + wait_s)

    def with_fruitless(self, knocks: int) -> Self:
        """The same, after so many `fruitless` knocks."""
        return msgspec.structs.replace(self, fruitless=knocks)

    @classmethod
    def from_carried(cls, carried: CarriedEpisode, now: Instant) -> Self:
        """Go on where `carried` left off."""
        return cls(
            began=now.when(carried.began).mono,
            openings=carried.openings,
            knock_from=now.when(carried.knock_from).mono,
            fruitless=carried.fruitless,
        )

    def carried(self, now: Instant) -> CarriedEpisode:
        """The whole state at `now`."""
        return CarriedEpisode(
            began=now.wall_at(self.began),
            openings=self.openings,
            knock_from=now.wall_at(self.knock_from),
            fruitless=self.fruitless,
        )


class CallWindow:
    """The calls of the last `span_s` seconds, and how many of them failed. `span_s` may be set at any time."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0

    def add(self, now: float, *, failed: bool) -> None:
        """Count a call that ended `now`, in monotonic seconds, and forget the calls that are too old."""
        self._calls.append((now, failed))
        self._failed += failed
        while self._calls[0][0] <= now - self.span_s:
            self._failed -= self._calls.popleft()[1]

    def clear(self) -> None:
        """Forget every call."""
        self._calls.clear()
        self._failed = 0

    def __iter__(self) -> Iterator[tuple[float, bool]]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def failure_rate(self) -> float:
        """The share of calls that failed. Asked only of a window with calls in it."""
        return self._failed / len(self._calls)
