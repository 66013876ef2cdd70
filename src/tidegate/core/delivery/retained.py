"""The newest event of every retained type and key: what a new subscriber is handed.

An event keeps its position and its `timestamp`. The other times that it tells are held, so they follow a wall clock
that is set: age is what counts, and a subscriber knows no clock but the present one.
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
"""An event type and a key, "" where the type has none."""


class Retained:
    """Retained events by type, then by key, in the order in which the keys were first seen.

    A type that was ever retained stays known after its last value is gone, until `forget_type`.
    """

    def __init__(self, known_types: Iterable[str] = ()) -> None:
        self._known_types = tuple(known_types)
        self._slots: dict[str, dict[str, _Slot]] = {event_type: {} for event_type in self._known_types}
        self._now: Instant | None = None  # the newest that anyone came with
        self._offset = 0.0  # of the wall clock to the monotonic one, then
        self.restated: Callable[[Draft], Draft] = lambda draft: draft
        """Asked what a draft has to say whose `fresh_s` has passed: itself, if it is still true."""

    def apply(self, event: Event, now: Instant) -> None:
        """Keep `event`, which is published `now`, or forget the value that it says is gone."""
        if now is not self._now:
            self._follow_clock(now)
        slots = self._slots.setdefault(event.type, {})
        if event.draft.gone:
            slots.pop(event.key or "", None)
        else:
            slots[event.key or ""] = _Slot(event, self._offset, now.mono)

    def refresh(self, event_type: str, as_of: float, now: Instant) -> None:
        """Unchanged values of `event_type` are as of `as_of` (Unix seconds, as told `now`): snapshots say so."""
        if now is not self._now:
            self._follow_clock(now)
        for slot in self._slots.get(event_type, {}).values():
            slot.refresh(as_of, self._offset)

    def events(self) -> Iterator[Event]:
        """Every retained event, as it was published."""
        return (slot.event for slots in self._slots.values() for slot in slots.values())

    def walk(self, event_types: Iterable[str] | None = None) -> Iterator[Name]:
        """Where all events are, or those of `event_types`. Others may come and go meanwhile; what is gone is passed."""
        for event_type in list(self._slots) if event_types is None else event_types:
            for key in list(self._slots.get(event_type, ())):
                yield event_type, key

    def names(self, wanted: Callable[[str, About], bool]) -> list[Name]:
        """Where the events are that are `wanted`: asked with an event's type and the types that it speaks of.

        Of a type's events, which mostly speak of the same, neighbours are asked for once.
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
        """The retained event, as it was published."""
        slot = self._slots.get(event_type, {}).get(key)
        return slot.event if slot else None

    def snapshot(self, name: Name, now: Instant) -> tuple[Event, bytes] | None:
        """The retained event and its envelope as a snapshot, encoded once; None if there is none any more.

        What age has made untrue by `now` is told as it is now, though the event that says so may be yet to come.
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
        """Know nothing of `event_type` any more, which has no values."""
        assert not self.has_values(event_type), "what is retained stays known"
        self._slots.pop(event_type, None)

    def clear(self) -> None:
        """Forget every value, and every type that was not known from the start."""
        self._slots = {event_type: {} for event_type in self._known_types}

    def _follow_clock(self, now: Instant) -> None:
        """Look at the clock: once for each moment, not for each event."""
        self._now = now
        self._offset = now.wall - now.mono

    def __contains__(self, event_type: str) -> bool:
        return event_type in self._slots

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))


class _Slot:
    """One retained event, what it has to say now, and that as a snapshot once somebody wanted it.

    `as_of` is set where later answers left the value unchanged; without it the event's own is told, which is never
    later than its `timestamp`. `draft` and `as_of` tell times of a wall clock that is ahead of the monotonic one by
    `offset`. From `fresh_until` on (monotonic), age alone may have made the event untrue.
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
        step_s = offset - self.offset
        self.offset = offset
        self.draft = with_times_moved(self.draft, step_s)
        self.as_of = None if self.as_of is None else self.as_of + step_s
        self.snapshot = None

    def refresh(self, as_of: float, offset: float) -> None:
        if abs(offset - self.offset) > STEP_S:
            self.follow_clock(offset)
        self.as_of = as_of
        self.snapshot = None

    def encoded(self, draft: Draft) -> bytes:
        as_of = draft.as_of if self.as_of is None else self.as_of
        if as_of is not None and self.as_of is None:
            as_of = min(as_of, self.event.timestamp)
        if draft is self.event.draft and as_of == draft.as_of:
            return encode_snapshot(self.event)
        return encode_restated(self.event, msgspec.structs.replace(draft, as_of=as_of))
