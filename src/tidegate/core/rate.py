"""How many of something may come: so many per second in the long run, and some at once.

The state is one number, `owed_until`: the moment until which what came so far uses the allowance up. Whoever counts
keeps it, and begins with `NOTHING_OWED`.
"""

import math

import msgspec

NOTHING_OWED = -math.inf

_TOLERANCE_S = 1e-6
"""Adding up fractions of seconds is not exact."""


class Rate(msgspec.Struct, frozen=True):
    """`per_s` per second in the long run, `burst` at once. Moments are monotonic seconds."""

    per_s: float
    burst: int

    def charged(self, owed_until: float, now: float, *, count: int = 1) -> float:
        """The new `owed_until` after `count` more."""
        return max(owed_until, now - self.burst / self.per_s) + count / self.per_s

    def is_over(self, owed_until: float, now: float) -> bool:
        """Whether more came than the rate allows."""
        return owed_until > now + _TOLERANCE_S
