"""Rate limits: a sustained rate, and a burst above it. A token bucket whose state is one number.

That number is `owed_until`: the time at which, at the sustained rate, everything counted so far is paid off. The
caller keeps it, and starts with `NOTHING_OWED`. (The literature calls this algorithm GCRA.)
"""

import math

import msgspec

NOTHING_OWED = -math.inf

_TOLERANCE_S = 1e-6
"""How much the debt may exceed the limit, because adding fractions of seconds is inexact."""


class Rate(msgspec.Struct, frozen=True):
    """A limit: `per_s` per second on average, and `burst` at once. Times are in monotonic seconds."""

    per_s: float
    burst: int

    def charged(self, owed_until: float, now: float, *, count: int = 1) -> float:
        """Return the new `owed_until` after counting `count` more."""
        # Idle time counts only up to one burst: a client must not save up more by being quiet for a long time.
        return max(owed_until, now - self.burst / self.per_s) + count / self.per_s

    def is_over(self, owed_until: float, now: float) -> bool:
        """Whether more has been counted than the rate allows."""
        return owed_until > now + _TOLERANCE_S


class Allowances:
    """One rate limit, applied separately to each of many names. A name takes memory only while it owes something."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._owed_until: dict[str, float] = {}

    def charge(self, name: str, now: float, count: int) -> float:
        """If the rate allows `count` more for `name`, count them and return 0.0.

        Otherwise count nothing, and return after how many seconds it will allow them. `count` must not exceed the
        burst: more would never be allowed.
        """
        charged = self.rate.charged(self._owed_until.get(name, NOTHING_OWED), now, count=count)
        if self.rate.is_over(charged, now):
            return charged - now
        self._owed_until[name] = charged
        return 0.0

    def refund(self, name: str, count: int) -> None:
        """Take back a `charge` of `count` for `name`, as if it had never been made."""
        if name in self._owed_until:  # otherwise it was forgotten, and owes nothing anyway
            self._owed_until[name] -= count / self.rate.per_s

    def forget_idle(self, now: float) -> None:
        """Forget the names whose debt has been paid for long enough to have a full burst again."""
        paid_by = now - self.rate.burst / self.rate.per_s
        for name in [name for name, owed_until in self._owed_until.items() if owed_until <= paid_by]:
            del self._owed_until[name]

    def __len__(self) -> int:
        """How many names are kept."""
        return len(self._owed_until)
