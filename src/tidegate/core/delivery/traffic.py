"""What is published and what clients are given, counted in plain integers where it happens.

Nothing here is done for each receiver of an event: the hub counts once for all that it writes to. Knows nothing of how
the counts are shown (`tidegate.runtime.traffic_readings`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tidegate.core.delivery.framing import Framing
from tidegate.core.delivery.outbox import OTHER_TYPES
from tidegate.core.events import Event
from tidegate.core.readings import AGES_S, DELAYS_S, Distribution

TYPES = 1024
"""How many event types are counted apart, beside those that were named. Publishers may invent more."""


class TypeTraffic:
    """The counts of one event type.

    `published` events had `published_bytes` (of their envelopes) together. Clients were given `live` events,
    `snapshots` and `replayed` events, each counted for each client. They did not get `skipped` ones, which were
    dropped since they read too slowly; `conflated` ones among these for a newer one of the same key.
    """

    __slots__ = ("conflated", "live", "published", "published_bytes", "replayed", "skipped", "snapshots")

    def __init__(self) -> None:
        self.published = self.published_bytes = 0
        self.live = self.snapshots = self.replayed = 0
        self.skipped = self.conflated = 0


class Traffic:
    """The counts of one gateway.

    `sent_bytes` is how much was written to clients in each framing: messages and events as they are framed, and what
    begins a stream. `ages` are those of fresh data when it was published, once for each client that was given it live.
    `fan_out` is how many seconds it took to write what was published in one turn of the loop. `resumes` counts the
    wishes to resume by what came of them: ``whole``, or the reason of the gap that the client was sent. `others` are
    all types beyond the limit.
    """

    def __init__(self, known_types: Iterable[str] = ()) -> None:
        self.others = TypeTraffic()
        self.sent_bytes: defaultdict[Framing, int] = defaultdict(int)
        self.ages = Distribution(AGES_S)
        self.fan_out = Distribution(DELAYS_S)
        self.resumes: dict[str, int] = {"whole": 0, "history_truncated": 0, "epoch_changed": 0}
        self._types: dict[str, TypeTraffic] = {}
        self._left = TYPES
        self.begin(known_types)

    def begin(self, event_types: Iterable[str]) -> None:
        """Count each of `event_types` apart, whatever else is published, and from 0 on."""
        for event_type in event_types:
            self._types[event_type] = TypeTraffic()

    def of(self, event_type: str) -> TypeTraffic:
        """Return the counts to which an event of `event_type` is added."""
        found = self._types.get(event_type)
        return self._first(event_type) if found is None else found

    @property
    def by_type(self) -> Mapping[str, TypeTraffic]:
        """The counts of each type that is counted apart."""
        return self._types

    def note_published(self, event: Event) -> None:
        """Count `event`, which was published."""
        counts = self.of(event.draft.type)
        counts.published += 1
        counts.published_bytes += len(event.json)

    def note_live(self, event: Event, receivers: int) -> None:
        """Count `event`, which so many clients were given."""
        draft = event.draft
        self.of(draft.type).live += receivers
        if draft.as_of is not None and draft.stale is False:
            self.ages.note(event.timestamp - draft.as_of, receivers)

    def counted(self, framing: Framing, data: bytes) -> bytes:
        """Count `data`, which is about to be written to one client, and return it."""
        self.sent_bytes[framing] += len(data)
        return data

    def note_skipped(self, skipped: Mapping[str, int], conflated: Mapping[str, int]) -> None:
        """Count what a client did not get: `skipped` events by type, and how many of these were `conflated`."""
        for event_type, count in skipped.items():
            self.of(event_type).skipped += count
        for event_type, count in conflated.items():
            self.of(event_type).conflated += count

    def _first(self, event_type: str) -> TypeTraffic:
        """Return the counts of a type that was not counted before."""
        if event_type == OTHER_TYPES or self._left == 0:
            return self.others
        self._left -= 1
        counts = self._types[event_type] = TypeTraffic()
        return counts
