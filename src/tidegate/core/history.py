"""The newest events, so that a client that comes back is replayed what it missed, or told that it cannot be.

A ring bounded by count and by bytes. Positions in it have no holes, so a replay is whole or it is refused.
"""

from tidegate.core.events import Event, GapReason, Position


class History:
    """Events in the order of their positions.

    `max_events` and `max_bytes` (of encoded envelopes) bound it; the newest event is dropped too if it alone is
    larger than `max_bytes`.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: dict[int, Event] = {}
        self._bytes = 0
        self._oldest = 1
        self.newest = 0
        """The position of the newest event that was ever taken; 0 before the first."""

    def append(self, event: Event) -> list[Event]:
        """Take the next event; the events that fell out for it, oldest first."""
        assert event.seq is not None, "only what has a place is kept"
        if not self._events:
            self._oldest = event.seq
        self._events[event.seq] = event
        self.newest = event.seq
        self._bytes += len(event.json)
        evicted = []
        while len(self._events) > self._max_events or self._bytes > self._max_bytes:
            fallen = self._events.pop(self._oldest)
            self._oldest += 1
            self._bytes -= len(fallen.json)
            evicted.append(fallen)
        return evicted

    def refuses(self, since: Position, newest: Position, *, not_before: int = 0) -> GapReason | None:
        """Why a replay from `since` up to `newest` cannot be whole: the reason of a gap, or None if it can.

        `not_before`: what the client is subscribed to was something else before this position.
        """
        if since.epoch != newest.epoch or since.seq > newest.seq:
            return "epoch_changed"
        if since.seq < not_before or (since.seq < newest.seq and since.seq + 1 not in self._events):
            return "history_truncated"
        return None

    def get(self, seq: int) -> Event | None:
        """The event at `seq`, or None if it fell out or has not come yet."""
        return self._events.get(seq)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def bytes(self) -> int:
        """Bytes of envelopes held."""
        return self._bytes
