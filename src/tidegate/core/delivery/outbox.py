"""Events that wait for one connection that cannot take more right now.

Retained types are conflated: only the newest event of a key is kept. Of all other types together, the newest `QUEUE`
events are kept. Dropped events are counted by type, and a `gap` message tells the client the counts. The outbox only
limits what it keeps; its caller decides when a client is too slow (as in centrifuge's client writer).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping

from tidegate.core.events import About, Event

QUEUE = 256
"""How many events of types that are not retained are kept for one connection.

Enough for a short pause of the client.
"""

COUNTED_TYPES = 100
OTHER_TYPES = "*"
"""How many types are counted by name. Further types are counted together as `*`, which cannot be a type's name."""


class Outbox:
    """Events waiting for one connection, oldest first."""

    __slots__ = ("_conflated", "_kept", "_offered", "_queued", "_skipped", "bytes")

    def __init__(self) -> None:
        # By type and key if they are retained; the others by a number of their own, since they replace nothing.
        self._kept: OrderedDict[tuple[str, str | None] | int, Event] = OrderedDict()
        self._offered = 0
        self._queued: deque[int] = deque()
        self._skipped: dict[str, int] = {}
        self._conflated: dict[str, int] = {}
        self.bytes = 0
        """Bytes of the envelopes that are kept."""

    def offer(self, event: Event) -> None:
        """Keep `event`. An older one may be dropped for it."""
        # An event that replaces another goes to the end: events must be sent in the order of their positions.
        if event.draft.retain:
            name = (event.type, event.key)
            if (replaced := self._kept.pop(name, None)) is not None:
                self._skip(replaced)
                count_skipped(self._conflated, [(event.type, 1)])
            self._kept[name] = event
        else:
            if len(self._queued) == QUEUE:
                self._skip(self._kept.pop(self._queued.popleft()))
            self._offered += 1
            self._kept[self._offered] = event
            self._queued.append(self._offered)
        self.bytes += len(event.json)

    def take_skipped(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many events were dropped since the last call, by type, and how many of these for a newer one."""
        taken = self._skipped, self._conflated
        self._skipped, self._conflated = {}, {}
        return taken

    def pop(self) -> Event:
        """Remove and return the oldest event. Raises `KeyError` if there is none."""
        name, event = self._kept.popitem(last=False)
        if isinstance(name, int):
            self._queued.popleft()
        self.bytes -= len(event.json)
        return event

    def keep_only(self, wanted: Callable[[str, About], bool]) -> int:
        """Remove every event for which `wanted(type, about)` is false, and return how many.

        They do not count as dropped: nobody wants them any more. What was dropped before stays counted.
        """
        left = {name: event for name, event in self._kept.items() if wanted(event.type, event.draft.about)}
        removed = len(self._kept) - len(left)
        self._kept = OrderedDict(left)
        self._queued = deque(name for name in left if isinstance(name, int))
        self.bytes = sum(len(event.json) for event in left.values())
        return removed

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many events were dropped since the last `take_skipped`, by type."""
        return self._skipped

    def __len__(self) -> int:
        return len(self._kept)

    def _skip(self, event: Event) -> None:
        count_skipped(self._skipped, [(event.type, 1)])
        self.bytes -= len(event.json)


def count_skipped(counts: dict[str, int], more: Iterable[tuple[str, int]]) -> None:
    """Add the numbers of `more` events, by type, to `counts`. Beyond `COUNTED_TYPES`, count them as `OTHER_TYPES`.

    Publishers may invent types, and a gap is one frame, so the number of types must be limited.
    """
    for event_type, count in more:
        known = event_type in counts or len(counts) < COUNTED_TYPES
        name = event_type if known else OTHER_TYPES
        counts[name] = counts.get(name, 0) + count
