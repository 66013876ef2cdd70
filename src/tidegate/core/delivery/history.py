"""Keeps the newest events, so that a client that resumes is sent what it missed, or is told that it cannot be.

The history is limited by count and by bytes. If a number is missing between two positions, no event has it: nothing is
lost there. So a replay is either complete or refused.
"""

from bisect import bisect_right
from collections import deque

from tidegate.core.events import Event, GapReason, Position


class History:
    """Events of one epoch, in the order of their positions.

    At most `max_events` events and `max_bytes` bytes (of encoded envelopes) are kept; `resize` changes these limits.
    Even the newest event is dropped if it alone is larger than `max_bytes`.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.begin(Position("", 0))

    def begin(self, position: Position) -> None:
        """Forget every event. Take the epoch of `position`; the next event comes after `position`."""
        self.epoch = position.epoch
        self._events: dict[int, Event] = {}
        self._order: deque[int] = deque()
        self._after_holes: list[int] = []  # positions of events whose predecessor has not the number before
        self._bytes = 0
        self._whole_after = position.seq  # every event after this position is kept
        self.newest = position.seq
        """`seq` of the newest event that was ever appended, or of the position where the history began."""

    @property
    def position(self) -> Position:
        """`newest` with its epoch."""
        return Position(self.epoch, self.newest)

    def append(self, event: Event) -> list[Event]:
        """Add the next event, whose position is after `newest`. Return the events dropped for it, oldest first."""
        seq = event.seq
        assert seq is not None, "an event without a position is never kept"
        assert seq > self.newest, "events come in the order of their positions, each once"
        if seq != self.newest + 1:
            self._after_holes.append(seq)
        self._events[seq] = event
        self._order.append(seq)
        self.newest = seq
        self._bytes += len(event.json)
        return self._evicted()

    def resize(self, *, max_events: int, max_bytes: int) -> list[Event]:
        """Keep to other limits from now on. Return the events dropped for smaller ones, oldest first."""
        self._max_events = max_events
        self._max_bytes = max_bytes
        return self._evicted()

    def gap_reason(self, since: Position, newest: Position, *, not_before: int = 0) -> GapReason | None:
        """Return why a replay from `since` up to `newest` would be incomplete. None if it would be complete.

        `not_before` is the position at which the client's patterns became what they are now. From before that, a replay
        would lack values of types that the client was not subscribed to then.
        """
        if since.epoch != newest.epoch or since.seq > newest.seq:
            return "epoch_changed"
        if since.seq < not_before or since.seq < self._whole_after:
            return "history_truncated"
        return None

    def after(self, seq: int) -> Event | None:
        """Return the oldest kept event after position `seq`. None if there is none yet."""
        # Nearly always the next number: holes are rare.
        event = self._events.get(seq + 1)
        if event is not None or seq >= self.newest:
            return event
        if seq < self._whole_after:
            return self._events[self._order[0]] if self._order else None
        # There is a hole after `seq`: go on behind it.
        return self._events[self._after_holes[bisect_right(self._after_holes, seq)]]

    @property
    def oldest(self) -> Event | None:
        """The oldest event that is kept."""
        return self._events[self._order[0]] if self._order else None

    def __len__(self) -> int:
        return len(self._events)

    @property
    def bytes(self) -> int:
        """Bytes of the envelopes that are kept."""
        return self._bytes

    def _evicted(self) -> list[Event]:
        evicted = []
        while len(self._events) > self._max_events or self._bytes > self._max_bytes:
            evicted.append(self._evict())
        return evicted

    def _evict(self) -> Event:
        seq = self._whole_after = self._order.popleft()
        if self._after_holes and self._after_holes[0] == seq:
            del self._after_holes[0]
        dropped = self._events.pop(seq)
        self._bytes -= len(dropped.json)
        return dropped
