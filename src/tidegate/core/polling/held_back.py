"""The sources of one backend that missed a call only because of a hold. They are asked as soon as it ends."""

from collections.abc import Iterable, Mapping

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.source import Source


class HeldBack:
    """These sources. A hold is the same for all `breakers` of the backend."""

    def __init__(self, breakers: Mapping[str, Breaker]) -> None:
        self._breakers = breakers
        self._sources: dict[Source, None] = {}

    def add(self, sources: Iterable[Source]) -> None:
        """`sources` would be asked now, but for the hold."""
        self._sources |= dict.fromkeys(sources)

    def forget(self, sources: Iterable[Source]) -> None:
        """`sources` are polled no longer, or asked anew anyway."""
        for source in sources:
            self._sources.pop(source, None)

    @property
    def names(self) -> list[str]:
        """Their event types."""
        return [source.type for source in self._sources]

    @property
    def wake_at(self) -> float | None:
        """Monotonic time at which the hold ends; None if nobody waits for it."""
        return self._ends_at if self._sources else None

    def take(self, now: Instant) -> list[Source]:
        """If the hold has ended, return those that are asked now. They are held back no longer."""
        if not self._sources or now.mono < self._ends_at:
            return []
        # A breaker that is not closed gets its probe, and catches up when it closes.
        closed = [source for source in self._sources if self._breakers[source.plan.breaker].is_closed]
        self._sources.clear()
        return closed

    def __contains__(self, source: Source) -> bool:
        return source in self._sources

    @property
    def _ends_at(self) -> float:
        """Monotonic time at which the backend's newest hold ends or ended."""
        held_until = next((breaker.view().held_until for breaker in self._breakers.values()), None)
        return LONG_AGO if held_until is None else held_until.mono
