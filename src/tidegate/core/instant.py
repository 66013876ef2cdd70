"""A moment on both clocks, and how people are told of it.

Decisions compare `Instant.mono`; `Instant.wall` is only ever shown. Whoever owns the clocks reads them once and
passes the moment down. Whoever holds a moment to show it later holds both, and shows `Instant.seen_at` then: a wall
clock that somebody set meanwhile has moved against the monotonic one, and what is held moves with it.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

Time = Annotated[
    str, msgspec.Meta(description="RFC 3339, UTC, milliseconds", extra_json_schema={"format": "date-time"})
]
"""A moment as messages tell it: what `rfc3339` makes."""

_WITHOUT_OFFSET = -len("+00:00")


LONG_AGO = float("-inf")
"""The monotonic time of what has not happened yet: earlier than every other."""

STEP_S = 1.0
"""A wall clock that has moved against the monotonic one by more than this was set. What is less is left alone, so that
a time which is told twice is told the same."""


class Instant(msgspec.Struct, frozen=True, gc=False):
    """One moment: `mono` in seconds of the monotonic clock, `wall` in Unix seconds, read together."""

    mono: float
    wall: float

    def step_to(self, now: "Instant") -> float:
        """By how many seconds the wall clock was set between this moment and `now`; 0.0 if by no more than `STEP_S`."""
        moved_s = (now.wall - self.wall) - (now.mono - self.mono)
        return moved_s if abs(moved_s) > STEP_S else 0.0

    def seen_at(self, now: "Instant") -> "Instant":
        """This moment as the wall clock tells it now: moved by the step if it was set meanwhile.

        Keep the result in place of this moment: so it is moved once for each step, and the same from one step to the
        next.
        """
        step_s = self.step_to(now)
        return Instant(self.mono, self.wall + step_s) if step_s else self

    def when(self, wall: float) -> "Instant":
        """The moment that the wall clock of this one tells as `wall`."""
        return Instant(self.mono - (self.wall - wall), wall)

    def wall_at(self, mono: float) -> float:
        """The monotonic time `mono` as the wall clock of this moment tells it."""
        return self.wall - (self.mono - mono)


def carried_time(mono: float, now: Instant) -> float | None:
    """The monotonic time `mono` in Unix seconds, as another process can read it; None for `LONG_AGO`."""
    return None if mono == LONG_AGO else now.wall_at(mono)


def resumed_time(wall: float | None, now: Instant) -> float:
    """The inverse of `carried_time`: monotonic time of this process."""
    return LONG_AGO if wall is None else now.when(wall).mono


@lru_cache(maxsize=8)  # what happens at one moment has the same time: `welcome` and `synced`, all events of a burst
def rfc3339(wall: float) -> str:
    """`wall`, in Unix seconds, as RFC 3339 in UTC with milliseconds and ``Z``."""
    second, microseconds = divmod(round(wall * 1e6), 1_000_000)
    return f"{_to_the_second(second)}.{microseconds // 1000:03d}Z"


def from_rfc3339(text: str) -> float:
    """The inverse of `rfc3339`, in Unix seconds. Raises `ValueError` for text that is no such time."""
    return datetime.fromisoformat(text).timestamp()


@lru_cache(maxsize=8)
def _to_the_second(wall: int) -> str:
    """Many messages tell of the same second."""
    return datetime.fromtimestamp(wall, UTC).isoformat()[:_WITHOUT_OFFSET]
