"""What is kept on disk of a value that a publisher had retained, and which of these values are restored at a start.

Knows nothing of how they are stored, or of who publishes them again.
"""

from collections.abc import Collection, Generator, Iterator, Sequence

import msgspec

from tidegate.core.delivery.retained import Name
from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.topics import RESERVED_TYPES, check_event_type, check_key
from tidegate.errors import TopicError

PIECE_EVENTS = 500
"""Most values that are judged or published in one step of the event loop."""

PIECE_BYTES = 1 << 20
"""A piece with so much data is full, so that encoding it takes a few milliseconds at most."""


class PublishedValue(msgspec.Struct, frozen=True):
    """A row on disk with a retained value that was published. `key` is "" if the event had none.

    `data` is compact JSON in UTF-8. `timestamp` is that of the event, in Unix seconds. A value with a `ttl_s` ends when
    the wall clock shows `ends_at` (Unix seconds); both are None for a value without.
    """

    type: str
    key: str
    data: msgspec.Raw
    timestamp: float
    ttl_s: float | None = None
    ends_at: float | None = None


class RestoreLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What may be restored: nothing of `source_types`, and in all so many values and bytes of data."""

    source_types: Collection[str]
    retained_keys: int
    retained_bytes: int
    event_bytes: int


class Restoration(msgspec.Struct, kw_only=True):
    """What becomes of the values on disk: see `judged`.

    `values` are restored, the newest first. `left_out` exceed the limits: they stay on disk, for a start with larger
    ones. `malformed` have a type or key that no event may have; they stay there too. `ended` (their `ttl_s` is over)
    and `taken` (the type is now polled or built in) are to be deleted.
    """

    limits: RestoreLimits
    values: list[PublishedValue] = []
    left_out: list[Name] = []
    malformed: list[Name] = []
    ended: list[Name] = []
    taken: list[Name] = []
    size: int = 0
    is_full: bool = False

    def judge(self, value: PublishedValue, now: Instant) -> None:
        """Decide what becomes of `value`, which is not newer than those before."""
        remaining_s = _remaining_s(value, now)
        if value.type in self.limits.source_types or value.type in RESERVED_TYPES:
            self.taken.append(name_of(value))
        elif remaining_s is not None and remaining_s <= 0:
            self.ended.append(name_of(value))
        elif not _has_name(value):
            self.malformed.append(name_of(value))
        elif len(value.data) > self.limits.event_bytes or self._is_full_before(value):
            self.left_out.append(name_of(value))
        else:
            self.values.append(value)
            self.size += len(value.data)

    def _is_full_before(self, value: PublishedValue) -> bool:
        # From the first that does not fit, all are left out: no value is there while a newer one is missing.
        self.is_full |= len(self.values) == self.limits.retained_keys
        self.is_full |= self.size + len(value.data) > self.limits.retained_bytes
        return self.is_full

    def pieces(self) -> Iterator[Sequence[PublishedValue]]:
        """Iterate over `values`, oldest first, in pieces of a few milliseconds each. What was yielded is let go."""
        values = self.values
        while values:
            piece = [values.pop()]
            size = len(piece[0].data)
            while values and len(piece) < PIECE_EVENTS and size + len(values[-1].data) <= PIECE_BYTES:
                piece.append(values.pop())
                size += len(piece[-1].data)
            yield piece


def judged(saved: list[PublishedValue], limits: RestoreLimits, now: Instant) -> Generator[None, None, Restoration]:
    """Decide what becomes of the `saved` values, while the caller iterates; each step takes a few milliseconds.

    Of too many, the oldest by their `timestamp` are left out. Empties `saved`: together they may take much memory.
    """
    out = Restoration(limits=limits)
    saved.sort(key=_timestamp)
    while saved:
        for value in reversed(saved[-PIECE_EVENTS:]):
            out.judge(value, now)
        del saved[-PIECE_EVENTS:]
        yield
    return out


def name_of(value: PublishedValue) -> Name:
    """Return the type and the key of `value`."""
    return value.type, value.key


def restored_draft(value: PublishedValue, now: Instant) -> Draft:
    """Return the draft that publishes `value` again: its `ttl_s` is what is left of it."""
    ttl_s = _remaining_s(value, now)
    return Draft(type=value.type, key=value.key or None, data=value.data, retain=True, ttl_s=ttl_s)


def _remaining_s(value: PublishedValue, now: Instant) -> float | None:
    """Return for how many seconds from `now` the value lives; None if for ever.

    Never longer than its whole `ttl_s`: on a machine without a battery for its clock, `now` may be years before the
    value was published.
    """
    if value.ends_at is None:
        return None
    left_s = value.ends_at - now.wall
    return left_s if value.ttl_s is None else min(left_s, value.ttl_s)


def _timestamp(value: PublishedValue) -> float:
    return value.timestamp


def _has_name(value: PublishedValue) -> bool:
    """Whether the type and the key are ones that an event may have."""
    try:
        check_event_type(value.type)
        if value.key:
            check_key(value.key)
    except TopicError:
        return False
    return True
