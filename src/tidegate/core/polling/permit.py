"""What a breaker answers to whoever wants to make a call: a permit, or none.

`tidegate.core.polling.breaker` gives permits and takes them back.
"""

import msgspec

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker_values import Transition

GRACE_S = 1.0
"""How long after its deadline the call of a probe may still end, in seconds, before the probe loses its place."""


class Permit:
    """The right to make one call. Give it to `Breaker.record` once, however the call ends.

    `transition` is set on the probe that moved the breaker to half-open.
    """

    __slots__ = ("generation", "recorded", "transition")

    def __init__(self, generation: int, transition: Transition | None = None) -> None:
        self.generation = generation
        self.recorded = False
        self.transition = transition


class ProbeOut:
    """The probe of one breaker that is out, if there is one. Its place is lost to the next if its call does not end."""

    def __init__(self) -> None:
        self._permit: Permit | None = None
        self._expires = LONG_AGO

    def begin(self, permit: Permit, now: Instant, *, timeout_s: float) -> Permit:
        """`permit` is that of the probe from now on. Its call is cancelled after `timeout_s`. Return it."""
        self._permit, self._expires = permit, now.mono + timeout_s + GRACE_S
        return permit

    def end(self) -> None:
        """No probe is out any more."""
        self._permit, self._expires = None, LONG_AGO

    def live(self, now: Instant) -> Permit | None:
        """The permit of the probe that is out and has not lost its place."""
        return self._permit if now.mono < self._expires else None

    @property
    def expires_mono(self) -> float:
        """Monotonic time at which it loses its place; `LONG_AGO` if none is out."""
        return self._expires


class NoPermit(msgspec.Struct, frozen=True):
    """No call now. `retry_at` is in Unix seconds, and not before the end of a hold.

    None while a probe is out or the breaker is forced open.
    """

    retry_at: float | None
