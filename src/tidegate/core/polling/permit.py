"""What a breaker answers to whoever wants to make a call: a permit, or none.

`tidegate.core.polling.breaker` gives permits and takes them back.
"""

import msgspec

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker_values import Transition


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
    """The probe of one breaker that is out, if there is one. After `deadline_s` it loses its place to the next."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._permit: Permit | None = None
        self._expires = LONG_AGO

    def begin(self, permit: Permit, now: Instant) -> Permit:
        """`permit` is that of the probe from now on. Return it."""
        self._permit, self._expires = permit, now.mono + self._deadline_s
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
