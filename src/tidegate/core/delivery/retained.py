"""The newest event of every retained type and key. A new subscriber is sent these as snapshots.

In a snapshot, an event keeps its position and its `timestamp`. The other times in it are corrected if the wall clock
was set since then: a client compares them with the present clock, and they must show the true age.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from tidegate.core.built_in import with_times_moved
from tidegate.core.envelope import encode_restated, encode_snapshot
from tidegate.core.events import About, Draft, Event
from tidegate.core.instant import STEP_S, Instant

Name = tuple[str, str]
"""An event type and a key, "" if the type has none."""


class Retained:
    """Retained events by type, then by key, in the order in which the keys were first seen.

    A type that was ever retained stays known after its last value is gone, until `forget_type`.
    """

    def __init__(self, known_types: Iterable[str] = ()) -> None:
        self._known_types = tuple(known_types)
        self._slots: dict[str, dict[str, _Slot]] = {event_type: {} for event_type in self._known_types}
        self._now: Instant | None = None  # the moment of the latest call
        self._offset = 0.0  # wall clock minus monotonic clock, at that moment
        self.restated: Callable[[Draft], Draft] = lambda draft: draft
        """Called with a draft whose `fresh_s` has passed. Returns what is true now: the draft itself if it still is."""

    def know(self, event_type: str) -> None:
        """Know `event_type` as if it had been among the `known_types` from the start."""
        if event_type not in self._known_types:
            self._known_types = (*self._known_types, event_type)
            self._slots.setdefault(event_type, {})

    def apply(self, event: Event, now: Instant) -> None:
        """Keep `event`, which was published `now`. If it says that a value is gone, remove that value."""
        if now is not self._now:
            self._follow_clock(now)
        slots = self._slots.setdefault(event.type, {})
        if event.draft.gone:
            slots.pop(event.key or "", None)
        else:
            slots[event.key or ""] = _Slot(event, self._offset, now.mono)

    def refresh(self, event_type: str, as_of: float, now: Instant) -> None:
        """A poll left the values of `event_type` unchanged: their snapshots show the new `as_of` from now on.

        `as_of` is in Unix seconds by the wall clock of `now`.
        """
        if now is not self._now:
            self._follow_clock(now)
        for slot in self._slots.get(event_type, {}).values():
            slot.refresh(as_of, self._offset)

    def events(self) -> Iterator[Event]:
        """Every retained event, as it was published."""
        return (slot.event for slots in self._slots.values() for slot in slots.values())

    def walk(self, event_types: Iterable[str] | None = None) -> Iterator[Name]:
        """Iterate over the names of all retained events, or of those of `event_types`.

        Events may be added and removed between two steps. A name that was yielded may have no event any more.
        """
        for event_type in list(self._slots) if event_types is None else event_types:
            for key in list(self._slots.get(event_type, ())):
                yield event_type, key

    def names(self, wanted: Callable[[str, About], bool]) -> list[Name]:
        """Return the names of the events for which `wanted(type, about)` is true (see `Draft.about`).

        It is called once for a run of events with the same `about`, since most events of a type share one.
        """
        found: list[Name] = []
        for event_type, slots in self._slots.items():
            asked: About | Literal[False] = False
            is_wanted = False
            for key, slot in slots.items():
                about = slot.event.draft.about
                if about is not asked:
                    is_wanted, asked = wanted(event_type, about), about
                if is_wanted:
                    found.append((event_type, key))
        return found

    def get(self, event_type: str, key: str = "") -> Event | None:
        """Return the retained event as it was published, or None."""
        slot = self._slots.get(event_type, {}).get(key)
        return slot.event if slot else None

    def snapshot(self, name: Name, now: Instant) -> tuple[Event, bytes] | None:
        """Return the retained event and its envelope as a snapshot, which is encoded once. None if there is no event.

        If age has made the event untrue by `now`, the snapshot says what is true now, even if the event that says so
        has not been published yet.
        """
        event_type, key = name
        slot = self._slots.get(event_type, {}).get(key)
        if slot is None:
            return None
        if now is not self._now:
            self._follow_clock(now)
        if not -STEP_S <= self._offset - slot.offset <= STEP_S:
            slot.follow_clock(self._offset)
        draft = slot.draft
        if slot.fresh_until <= now.mono and (restated := self.restated(draft)) is not draft:
            return slot.event, slot.encoded(restated)
        if slot.snapshot is None:
            slot.snapshot = slot.encoded(draft)
        return slot.event, slot.snapshot

    def has_values(self, event_type: str) -> bool:
        """Whether there is a retained event of `event_type`."""
        return bool(self._slots.get(event_type))

    def forget_type(self, event_type: str) -> None:
        """Forget that `event_type` was ever retained. It must have no values."""
        assert not self.has_values(event_type), "a type that has values stays known"
        self._slots.pop(event_type, None)

    def clear(self) -> None:
        """Remove every value, and every type that was not known from the start."""
        self._slots = {event_type: {} for event_type in self._known_types}

    def _follow_clock(self, now: Instant) -> None:
        """Compute the offset of the clocks. Called once for each moment, not for each event."""
        self._now = now
        self._offset = now.wall - now.mono

    def __contains__(self, event_type: str) -> bool:
        """Whether `event_type` is known: it is retained, or once was."""
        return event_type in self._slots

    def __len__(self) -> int:
        """How many events are retained."""
        return sum(map(len, self._slots.values()))


class _Slot:
    """One retained event, what it says now (`draft`), and its snapshot, once one was needed.

    `as_of` is set if later answers left the value unchanged. If it is None, the snapshot shows the event's own `as_of`,
    but never one later than its `timestamp`. The times in `draft` and `as_of` are by a wall clock that is ahead of the
    monotonic clock by `offset`. From `fresh_until` (monotonic), age alone may have made the event untrue.
    """

    __slots__ = ("as_of", "draft", "event", "fresh_until", "offset", "snapshot")

    def __init__(self, event: Event, offset: float, now: float) -> None:
        fresh_s = event.draft.fresh_s
        self.event = event
        self.draft = event.draft
        self.fresh_until = math.inf if fresh_s is None else now - event.age_s + fresh_s
        self.as_of: float | None = None
        self.offset = offset
        self.snapshot: bytes | None = None

    def follow_clock(self, offset: float) -> None:
        """Correct the times, because the wall clock was set."""
        step_s = offset - self.offset
        self.offset = offset
        self.draft = with_times_moved(self.draft, step_s)
        self.as_of = None if self.as_of is None else self.as_of + step_s
        self.snapshot = None

    def refresh(self, as_of: float, offset: float) -> None:
        """Show `as_of` from now on, a time of the wall clock that is ahead of the monotonic one by `offset`."""
        if abs(offset - self.offset) > STEP_S:
            self.follow_clock(offset)
        self.as_of = as_of
        self.snapshot = None

    def encoded(self, draft: Draft) -> bytes:
        """Return the snapshot that says what `draft` says."""
        as_of = draft.as_of if self.as_of is None else self.as_of
        if as_of is not None and self.as_of is None:
            as_of = min(as_of, self.event.timestamp)
        if draft is self.event.draft and as_of == draft.as_of:
            # Nothing has changed since it was published, so the published bytes serve. That is much faster.
            return encode_snapshot(self.event)
        return encode_restated(self.event, msgspec.structs.replace(draft, as_of=as_of))
