"""What one connection that cannot take more right now is kept, and what it is told it missed.

Retained types conflate: only the newest event of a key is worth having. Everything else queues up to `QUEUE` events,
the oldest dropped. What is skipped is counted by type and said in a gap. The shape follows centrifuge's client
writer: the policy is a value, the caller acts on it.
"""

from tidegate.core.events import Event

QUEUE = 256
"""Events of types that are not retained, kept per connection."""


class Outbox:
    """Events waiting for one connection, oldest first."""

    __slots__ = ("_kept", "_order", "_queued", "bytes", "skipped")

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None] | int, Event] = {}
        self._order = 0
        self._queued: dict[int, None] = {}
        self.bytes = 0
        self.skipped: dict[str, int] = {}

    def offer(self, event: Event) -> None:
        """Keep `event`, at the price of an older one where the bounds say so."""
        if event.draft.retain:
            name = (event.type, event.key)
            self._skip(self._kept.pop(name, None))
            self._kept[name] = event
        else:
            if len(self._queued) == QUEUE:
                oldest = next(iter(self._queued))
                del self._queued[oldest]
                self._skip(self._kept.pop(oldest))
            self._order += 1
            self._kept[self._order] = event
            self._queued[self._order] = None
        self.bytes += len(event.json)

    def drain(self) -> tuple[dict[str, int], list[Event]]:
        """What was skipped, by type, and what was kept, oldest first; the outbox is empty afterwards."""
        skipped, kept = self.skipped, list(self._kept.values())
        self.skipped = {}
        self._kept.clear()
        self._queued.clear()
        self.bytes = 0
        return skipped, kept

    def __len__(self) -> int:
        return len(self._kept)

    def _skip(self, event: Event | None) -> None:
        if event is not None:
            self.skipped[event.type] = self.skipped.get(event.type, 0) + 1
            self.bytes -= len(event.json)
