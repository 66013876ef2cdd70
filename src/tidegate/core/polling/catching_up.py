"""Asks the sources of a backend that is back once, soon, and without a herd.

One call is under way at first, and one more for each answer, up to the backend's connections. Calls begin evenly
spaced, at a limited rate. A failure takes the calls under way back to one. After a hold the rate is the backend's
normal one: a rate limiter is not a recovery.

Times are monotonic. Who is asked is decided in `lineup`.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Turn

LEAST_PER_S = 20.0
SHARE = 4.0
"""How many calls a second catching up may begin: so many times the normal rate, but at least `LEAST_PER_S`."""

LEAST_AFTER_HOLD_PER_S = 1.0

LATE_S = 0.02
"""How late a call may begin without delaying those after it. The timers of a loop are a few milliseconds late."""


class CatchingUp:
    """The catching up of one backend. `rate_per_s` is its normal rate of calls."""

    def __init__(self, *, rate_per_s: float, connections: int) -> None:
        self.follow(rate_per_s=rate_per_s, connections=connections)
        self._waiting: deque[list[Source]] = deque()
        self._sources: dict[Source, None] = {}
        self._under_way: set[Turn] = set()
        self._allowed = 1
        self._gap_s = self._short_gap_s
        self._next_at = LONG_AGO

    def follow(self, *, rate_per_s: float, connections: int) -> None:
        """Begin calls at another normal rate from now on. What is under way goes on as it began."""
        # The lateness that is made up for must not lift any second above the limit, so the gaps are that much longer.
        self._short_gap_s = (1 + LATE_S) / max(LEAST_PER_S, SHARE * rate_per_s)
        self._long_gap_s = (1 + LATE_S) / max(LEAST_AFTER_HOLD_PER_S, rate_per_s)
        self._connections = connections

    @property
    def is_over(self) -> bool:
        """Whether nobody waits, and no call of it is under way."""
        return not self._waiting and not self._under_way

    @property
    def next_at(self) -> float | None:
        """When the next call may begin; None if nobody waits, or the end of a call comes first."""
        return self._next_at if self._waiting and len(self._under_way) < self._allowed else None

    @property
    def waiting(self) -> Collection[Source]:
        """The sources that are yet to be asked."""
        return self._sources.keys()

    def begin(self, groups: Iterable[Sequence[Source]], now: Instant, *, after_hold: bool) -> None:
        """Ask `groups` one after the other, each with one call. Sources that wait already are asked once."""
        gap_s = self._long_gap_s if after_hold else self._short_gap_s
        self._gap_s = gap_s if self.is_over else max(self._gap_s, gap_s)
        self._allowed = 1
        self._next_at = max(self._next_at, now.mono)
        for group in groups:
            new = [source for source in group if source not in self._sources]
            if new:
                self._waiting.append(new)
                self._sources |= dict.fromkeys(new)

    def stop(self, sources: Iterable[Source]) -> None:
        """These are not asked any more: their breaker has opened, or the backend is held."""
        for source in sources:
            self._sources.pop(source, None)
        kept = ([source for source in group if source in self._sources] for group in self._waiting)
        self._waiting = deque(group for group in kept if group)
        if not self._waiting:  # whatever is still under way says nothing about the next time
            self._under_way.clear()

    def take(self, now: Instant) -> list[Source] | None:
        """Return the group that is to be asked now; None if none is."""
        at = self.next_at
        if at is None or now.mono < at:
            return None
        group = self._waiting.popleft()
        for source in group:
            del self._sources[source]
        return group

    def began(self, turn: Turn, now: Instant) -> None:
        """A group that was taken has its `turn`."""
        self._under_way.add(turn)
        is_late = now.mono - self._next_at <= LATE_S  # or else it has waited for an answer, which nobody makes up for
        self._next_at = (self._next_at if is_late else now.mono) + self._gap_s

    def ended(self, turn: Turn) -> None:
        """A turn has ended. Any turn may be given: those of others say nothing."""
        if turn not in self._under_way:
            return
        self._under_way.discard(turn)
        if turn.answered is not None:
            self._allowed = min(self._allowed + 1, self._connections) if turn.answered else 1


def in_turn(sources: Iterable[Source]) -> list[Source]:
    """Return `sources` in the order in which they catch up.

    First those that were answered before, longest ago first; then those never answered; last those that fail alone.
    """
    return sorted(
        sources, key=lambda source: (source.calls.failed_alone, source.answered_at == LONG_AGO, source.answered_at)
    )
