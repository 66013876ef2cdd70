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


class Allowances:
    """One rate, kept for each of many names apart. A name costs memory only while it owes something."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._owed_until: dict[str, float] = {}

    def charge(self, name: str, now: float, count: int) -> float:
        """Count `count` more of `name`, at most a burst, if they are within the rate, and return 0.

        Else count nothing, and return the seconds after which all of them would be.
        """
        charged = self.rate.charged(self._owed_until.get(name, NOTHING_OWED), now, count=count)
        if self.rate.is_over(charged, now):
            return charged - now
        self._owed_until[name] = charged
        return 0.0

    def forget_idle(self, now: float) -> None:
        """Forget the names that owe no more than one that never came."""
        paid_by = now - self.rate.burst / self.rate.per_s
        for name in [name for name, owed_until in self._owed_until.items() if owed_until <= paid_by]:
            del self._owed_until[name]

    def __len__(self) -> int:
        """How many names owe something."""
        return len(self._owed_until)
