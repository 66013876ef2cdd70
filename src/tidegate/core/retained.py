"""The newest event of every retained type and key: what a new subscriber is handed."""

from collections.abc import Callable, Iterable, Iterator

from tidegate.core.envelope import encode_restated, encode_snapshot
from tidegate.core.events import About, Draft, Event

Name = tuple[str, str]
"""An event type and a key, "" where the type has none."""


class Retained:
    """Retained events by type, then by key, in the order in which the keys were first seen.

    A type that was ever retained stays known after its last value is gone, until `forget_type`.
    """

    def __init__(self, known_types: Iterable[str] = ()) -> None:
        self._slots: dict[str, dict[str, _Slot]] = {event_type: {} for event_type in known_types}
        self._as_of: dict[str, float] = {}
        self.restated: Callable[[Draft], Draft] = lambda draft: draft
        """Asked what a draft has to say whose `until` has passed: itself, if it is still true."""

    def apply(self, event: Event) -> None:
        """Keep `event`, or forget the value that it says is gone."""
        slots = self._slots.setdefault(event.type, {})
        if event.draft.gone:
            slots.pop(event.key or "", None)
        else:
            slots[event.key or ""] = _Slot(event)

    def refresh(self, event_type: str, as_of: float) -> None:
        """Unchanged values of `event_type` were seen again at `as_of` (Unix seconds): snapshots say so."""
        self._as_of[event_type] = as_of
        for slot in self._slots.get(event_type, {}).values():
            slot.snapshot = None

    def events(self) -> Iterator[Event]:
        """Every retained event, as it was published."""
        return (slot.event for slots in self._slots.values() for slot in slots.values())

    def walk(self, event_types: Iterable[str] | None = None) -> Iterator[Name]:
        """Where all events are, or those of `event_types`. Others may come and go meanwhile; what is gone is passed."""
        for event_type in list(self._slots) if event_types is None else event_types:
            for key in list(self._slots.get(event_type, ())):
                yield event_type, key

    def names(self, wanted: Callable[[str, About], bool]) -> list[Name]:
        """Where the events are that are `wanted`: asked with an event's type and the types that it speaks of."""
        return [
            (event_type, key)
            for event_type, slots in self._slots.items()
            for key, slot in slots.items()
            if wanted(event_type, slot.event.draft.about)
        ]

    def get(self, event_type: str, key: str = "") -> Event | None:
        """The retained event, as it was published."""
        slot = self._slots.get(event_type, {}).get(key)
        return slot.event if slot else None

    def snapshot(self, name: Name, now: float) -> tuple[Event, bytes] | None:
        """The retained event and its envelope as a snapshot, encoded once; None if there is none any more.

        What age has made untrue by `now` (monotonic) is told as it is now, though the event that says so may be yet to
        come.
        """
        event_type, key = name
        slot = self._slots.get(event_type, {}).get(key)
        if slot is None:
            return None
        draft = slot.event.draft
        if draft.until is not None and now >= draft.until and (restated := self.restated(draft)) is not draft:
            return slot.event, encode_restated(slot.event, restated)
        if slot.snapshot is None:
            slot.snapshot = encode_snapshot(slot.event, as_of=self._as_of.get(event_type))
        return slot.event, slot.snapshot

    def has_values(self, event_type: str) -> bool:
        """Whether there is a retained event of `event_type`."""
        return bool(self._slots.get(event_type))

    def forget_type(self, event_type: str) -> None:
        """Know nothing of `event_type` any more, which has no values."""
        assert not self.has_values(event_type), "what is retained stays known"
        self._slots.pop(event_type, None)

    def __contains__(self, event_type: str) -> bool:
        return event_type in self._slots

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))


class _Slot:
    __slots__ = ("event", "snapshot")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.snapshot: bytes | None = None
