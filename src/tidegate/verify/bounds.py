"""How soon after its return a backend must be known to be back, and how many calls that may cost. Pure.

Everything is computed from what a gateway shows of its settings. What it does not show is assumed so that the bound
holds whatever it is: one connection, and a batch for each interval.
"""

import enum
import math
from collections.abc import Collection
from typing import Final

import msgspec

from tidegate.verify.moves import flapping_s

KNOCK_S: Final = 1.2
"""The longest gap between two knocks in the first minute of an episode: 1 s and 20 %."""

LATER_KNOCK_S: Final = 6.0
"""The longest gap after that: 5 s and 20 %."""

FIRST_MINUTE_S: Final = 60.0

LEAST_CALLS_PER_S: Final = 20.0
SHARE_OF_NORMAL: Final = 4.0
"""Catching up makes at most so many calls a second, as a multiple of the normal rate, but at least the number above."""

TICKLESS_S: Final = 2.0
"""A source with this interval or a longer one has no tick within a second of the call that caught it up."""


class Outage(enum.StrEnum):
    """What the last call or probe met before the backend came back."""

    REFUSED = "refused"
    UNANSWERED = "unanswered"
    """Connecting was not answered."""
    SICK = "sick"
    """There was a connection, but no good answer."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a backend and its breaker that count here. `timeout_s` is the longest of its sources'."""

    open_max_s: float
    timeout_s: float
    half_open_successes: int = 1


class CallLatency(msgspec.Struct, frozen=True):
    """How long good calls took, in seconds."""

    worst_s: float = 0.0
    mean_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.mean_s * 1000:.0f} ms, at most {self.worst_s * 1000:.0f} ms"


def first_fresh_s(
    outage: Outage, rules: Rules, *, latency: CallLatency, opening: int = 1, open_for_s: float = 0.0
) -> float:
    """Return the seconds after the return of the backend by which its first source must be fresh.

    `opening` counts the openings of the closed breaker in a row, from 1, and
    `open_for_s` is how long ago the last of them was, at the return.
    """
    calls_s = rules.half_open_successes * latency.worst_s
    if outage is Outage.SICK:
        return rules.open_max_s + rules.timeout_s + calls_s
    is_first_minute = opening == 1 and open_for_s <= FIRST_MINUTE_S
    gap_s = KNOCK_S if is_first_minute else LATER_KNOCK_S
    waits_s = max(0.0, flapping_s(opening, open_max_s=rules.open_max_s) - open_for_s)
    connecting_s = rules.timeout_s if outage is Outage.UNANSWERED else 0.0
    return gap_s + waits_s + connecting_s + calls_s


def catching_up_s(sources: int, intervals_s: Collection[float], *, latency: CallLatency) -> float:
    """Return by how many seconds the last of so many stale `sources` may be later than the first.

    `intervals_s` are those of all sources of the backend.
    """
    if not sources:
        return 0.0
    slowest_per_s = _cap(sum(1 / interval_s for interval_s in set(intervals_s)))
    s_per_call = max(1 / slowest_per_s, latency.mean_s)
    return sources * s_per_call + latency.worst_s * (1 + math.log2(sources))


def busiest_calls(stale_s: Collection[float], others_s: Collection[float] = (), *, half_open_successes: int = 1) -> int:
    """Return the largest number of calls in a second after a recovery.

    `stale_s` and `others_s` are the intervals of the sources that were stale at the return, and of the others.
    """
    cap = _cap(sum(1 / interval_s for interval_s in (*stale_s, *others_s)))
    ticking = [interval_s for interval_s in stale_s if interval_s < TICKLESS_S]
    ticks = sum(math.floor(1 / interval_s) + 1 for interval_s in (*ticking, *others_s))
    return math.floor(cap) + ticks + half_open_successes


def _cap(normal_per_s: float) -> float:
    """Return the most calls of catching up in a second, of a backend with this normal rate of calls."""
    return max(LEAST_CALLS_PER_S, SHARE_OF_NORMAL * normal_per_s)
