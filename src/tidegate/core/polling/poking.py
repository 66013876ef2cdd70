"""Whether somebody has asked for the probe of one breaker before its time."""

from tidegate.core.instant import LONG_AGO, Instant

POKE_EVERY_S = 10.0
"""How often a poke lets a probe go early, in seconds: whoever pokes without end must not become the retry loop."""


class Poke:
    """A poke of one breaker. It counts from `give` until `end`."""

    def __init__(self) -> None:
        self.counts = False
        self._given_at = LONG_AGO

    def give(self, now: Instant) -> None:
        """Somebody pokes now. It counts at most once in `POKE_EVERY_S`."""
        if now.mono >= self._given_at + POKE_EVERY_S:
            self.counts, self._given_at = True, now.mono

    def end(self) -> None:
        """The breaker has moved, or the backend asks to be left alone."""
        self.counts = False
