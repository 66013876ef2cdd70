"""A moment on the monotonic and the wall clock, and its text form.

Decisions compare `Instant.mono`; `Instant.wall` is only for display. The clocks are read once, at the edge of the
runtime, and the instant is passed down. To display an instant later, keep both times and use `Instant.seen_at`: if
the wall clock has been set in the meantime, it corrects the displayed time.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

Time = Annotated[
    str, msgspec.Meta(description="RFC 3339, UTC, milliseconds", extra_json_schema={"format": "date-time"})
]
"""A time in a message, as text made by `rfc3339`."""

_WITHOUT_OFFSET = -len("+00:00")


LONG_AGO = float("-inf")
"""The monotonic time of something that has never happened: earlier than every other time."""

EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0
"""The Unix seconds that have a text form: the first and the last second of the years 1 to 9999."""

STEP_S = 1.0
"""If the wall clock moves against the monotonic clock by more than this, it was set.

Smaller differences are drift. They are ignored, so that the same time is always shown the same.
"""


class Instant(msgspec.Struct, frozen=True, gc=False):
    """One moment: `mono` in monotonic seconds and `wall` in Unix seconds, read together."""

    mono: float
    wall: float

    def step_to(self, now: "Instant") -> float:
        """Return by how many seconds the wall clock was set between this moment and `now`; 0.0 if it was not."""
        moved_s = (now.wall - self.wall) - (now.mono - self.mono)
        return moved_s if abs(moved_s) > STEP_S else 0.0

    def seen_at(self, now: "Instant") -> "Instant":
        """Return this moment with `wall` corrected, if the wall clock has been set since then.

        The caller should keep the result instead of this moment, so that the correction happens once for each step of
        the clock, and the displayed time does not change between two steps.
        """
        step_s = self.step_to(now)
        return Instant(self.mono, self.wall + step_s) if step_s else self

    def when(self, wall: float) -> "Instant":
        """Return the moment at which the wall clock showed `wall`, if it was not set between then and this moment."""
        return Instant(self.mono - (self.wall - wall), wall)

    def wall_at(self, mono: float) -> float:
        """Return the monotonic time `mono` in Unix seconds, by the wall clock of this moment."""
        return self.wall - (self.mono - mono)


def carried_time(mono: float, now: Instant) -> float | None:
    """Return the monotonic time `mono` in Unix seconds, for another process to read. None for `LONG_AGO`."""
    return None if mono == LONG_AGO else now.wall_at(mono)


def resumed_time(wall: float | None, now: Instant) -> float:
    """Return `wall`, made by `carried_time`, in the monotonic time of this process."""
    return LONG_AGO if wall is None else now.when(wall).mono


@lru_cache(maxsize=8)  # many messages have the same time: `welcome` and `synced`, or all events of a burst
def rfc3339(wall: float) -> str:
    """Format `wall`, in Unix seconds, as RFC 3339 in UTC with milliseconds and ``Z``."""
    second, microseconds = divmod(round(wall * 1e6), 1_000_000)
    return f"{_to_the_second(second)}.{microseconds // 1000:03d}Z"


def from_rfc3339(text: str) -> float:
    """Parse text as `rfc3339` makes it, into Unix seconds. Raises `ValueError` for other text."""
    return datetime.fromisoformat(text).timestamp()


@lru_cache(maxsize=8)
def _to_the_second(wall: int) -> str:
    """Format whole seconds. Cached, since many messages fall into the same second."""
    return datetime.fromtimestamp(wall, UTC).isoformat()[:_WITHOUT_OFFSET]
