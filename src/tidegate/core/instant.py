"""A moment on both clocks, and how people are told of it.

Decisions compare `Instant.mono`; `Instant.wall` is only ever shown. Whoever owns the clocks reads them once and
passes the moment down.
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


class Instant(msgspec.Struct, frozen=True, gc=False):
    """One moment: `mono` in seconds of the monotonic clock, `wall` in Unix seconds."""

    mono: float
    wall: float


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
