"""The newest events, so that a client that comes back is replayed what it missed, or told that it cannot be.

A ring bounded by count and by bytes. A position that is missing between two others is a hole of the sequence, where
nothing was published; so a replay is whole or it is refused.
"""

from bisect import bisect_right
from collections import deque

from tidegate.core.events import Event, GapReason, Position


class History:
    """Events of one epoch, in the order of their positions.

    `max_events` and `max_bytes` (of encoded envelopes) bound it; the newest event is dropped too if it alone is
    larger than `max_bytes`.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.begin(Position("", 0))

    def begin(self, position: Position) -> None:
        """Forget every event: the sequence is that of `position`, and what comes next comes after it."""
        self.epoch = position.epoch
        self._events: dict[int, Event] = {}
        self._order: deque[int] = deque()
        self._after_holes: list[int] = []  # events whose predecessor in number does not exist
        self._bytes = 0
        self._whole_after = position.seq  # every event after this one is here
        self.newest = position.seq
        """The position of the newest event that was ever taken, or where the history began."""

    @property
    def position(self) -> Position:
        """Where `newest` is, with its epoch."""
        return Position(self.epoch, self.newest)

    def append(self, event: Event) -> list[Event]:
        """Take the next event, whose position is after `newest`; the events that fell out for it, oldest first."""
        seq = event.seq
        assert seq is not None, "only what has a position is kept"
        assert seq > self.newest, "and only once"
        if seq != self.newest + 1:
            self._after_holes.append(seq)
        self._events[seq] = event
        self._order.append(seq)
        self.newest = seq
        self._bytes += len(event.json)
        evicted = []
        while len(self._events) > self._max_events or self._bytes > self._max_bytes:
            evicted.append(self._evict())
        return evicted

    def gap_reason(self, since: Position, newest: Position, *, not_before: int = 0) -> GapReason | None:
        """Why a replay from `since` up to `newest` cannot be whole: the reason of a gap, or None if it can.

        `not_before`: what the client is subscribed to was something else before this position.
        """
        if since.epoch != newest.epoch or since.seq > newest.seq:
            return "epoch_changed"
        if since.seq < not_before or since.seq < self._whole_after:
            return "history_truncated"
        return None

    def after(self, seq: int) -> Event | None:
        """The oldest event after `seq` that is here, or None if there is none yet."""
        event = self._events.get(seq + 1)
        if event is not None or seq >= self.newest:
            return event
        if seq < self._whole_after:
            return self._events[self._order[0]] if self._order else None
        return self._events[self._after_holes[bisect_right(self._after_holes, seq)]]

    def __len__(self) -> int:
        return len(self._events)

    @property
    def bytes(self) -> int:
        """Bytes of envelopes held."""
        return self._bytes

    def _evict(self) -> Event:
        seq = self._whole_after = self._order.popleft()
        if self._after_holes and self._after_holes[0] == seq:
            del self._after_holes[0]
        fallen = self._events.pop(seq)
        self._bytes -= len(fallen.json)
        return fallen
