"""How long the data of one source was stale, since when it is, or until when it is fresh.

Staleness can begin by age alone, when nothing happens. So the time at which that will be is kept, and time is counted
from there whenever somebody looks. The verdict itself comes from `tidegate.core.polling.freshness`.
"""

from tidegate.core.instant import Instant


class Staleness:
    """The staleness of one source, from `now` on. At first it is stale: nothing is known."""

    __slots__ = ("_counted_until", "_edge", "_is_fresh", "_stale_s")

    def __init__(self, now: Instant) -> None:
        self._is_fresh = False  # until `_edge`
        self._edge = now  # when it became stale, or will by its age
        self._stale_s = 0.0
        self._counted_until = now.mono

    def note(self, now: Instant, fresh_until: Instant | None) -> None:
        """The verdict of `now`: stale if `fresh_until` is None, else fresh, until then unless something happens.

        Call this whenever the verdict may have changed, and before the figures are read.
        """
        self._count(now)
        if fresh_until is not None:
            self._is_fresh, self._edge = True, fresh_until
        elif self._is_fresh:
            self._is_fresh, self._edge = False, now

    def stale_s(self, now: Instant) -> float:
        """For how many seconds it was stale altogether."""
        self._count(now)
        return self._stale_s

    def edge(self, now: Instant) -> float:
        """Unix seconds of when it became stale, or of when it will become so by its age."""
        self._edge = self._edge.seen_at(now)
        return self._edge.wall

    def _count(self, now: Instant) -> None:
        if self._is_fresh and self._edge.mono <= now.mono:
            self._is_fresh = False
        if not self._is_fresh:
            self._stale_s += max(0.0, now.mono - max(self._counted_until, self._edge.mono))
        self._counted_until = now.mono
