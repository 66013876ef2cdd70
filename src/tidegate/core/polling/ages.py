"""Which source is the next whose age matters: at that time what was said of it becomes untrue without any call.

That time moves with each answer, mostly away. So it is looked up only for the sources that come first, not for all of
them each time. Times are monotonic.
"""

import heapq
from collections.abc import Iterable, Sequence

from tidegate.core.instant import Instant
from tidegate.core.polling.source import Source


class Ages:
    """The times at which the ages of `sources` matter."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources: Sequence[Source] = list(sources)
        self._numbers = {source.type: number for number, source in enumerate(self._sources)}
        self._known: dict[int, float] = {}  # the time of each source in the heap: not later than the true one
        self._heap: list[tuple[float, int]] = []  # may hold times that are not those of `_known`

    @property
    def next_at(self) -> float | None:
        """When the next one matters; None if none ever does."""
        while self._heap:
            at, number = self._heap[0]
            true_at = self._sources[number].check_age_at
            if self._known.get(number) == at == true_at:
                return at
            heapq.heappop(self._heap)
            if self._known.get(number) == at:
                del self._known[number]
                self._note(number, true_at)
        return None

    def changed(self, event_types: Iterable[str]) -> None:
        """Something else is said of these sources now."""
        for event_type in event_types:
            number = self._numbers.get(event_type)
            if number is not None:  # or else it is polled no longer
                self._note(number, self._sources[number].check_age_at)

    def all_changed(self) -> None:
        """Something else may be said of any source now."""
        self.changed(self._numbers)

    def take_due(self, now: Instant) -> list[Source]:
        """Return the sources whose age matters now. Their next time is known after `changed`."""
        due = []
        while (at := self.next_at) is not None and at <= now.mono:
            number = heapq.heappop(self._heap)[1]
            del self._known[number]
            due.append(self._sources[number])
        return due

    def _note(self, number: int, at: float | None) -> None:
        if at is not None and at < self._known.get(number, float("inf")):
            self._known[number] = at
            heapq.heappush(self._heap, (at, number))
