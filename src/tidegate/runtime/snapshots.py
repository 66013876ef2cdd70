"""Snapshots of the retained values, in pieces, so that a request for many of them does not block the event loop."""

from collections.abc import Iterator
from itertools import islice

from tidegate.core.access.grant import may_see
from tidegate.core.delivery.retained import Name, Retained
from tidegate.core.topics import UNCOVERED_PATTERNS, PatternSet
from tidegate.errors import UnknownName
from tidegate.ports import Clock

SNAPSHOT_EVENTS = 250
SNAPSHOT_BYTES = 65536
"""A piece covers at most this many retained values, and ends early once it has this many bytes."""


def snapshot_pieces(
    retained: Retained, clock: Clock, event_type: str | None, *, allowed: PatternSet
) -> Iterator[list[bytes]]:
    """Yield the snapshots that a new subscriber would get, of one type or of all that `allowed` matches, in pieces.

    Each snapshot is the newest at the time when its piece is taken. Values that are gone by then are left out. Raises
    `UnknownName`, before the first piece, for a type that was never retained or that `allowed` does not cover.
    """
    if event_type is not None and (event_type not in retained or not _has_visible(event_type, allowed)):
        raise UnknownName(f"expected a retained event type, got {event_type!r}")
    return _pieces(retained, clock, retained.walk() if event_type is None else retained.walk([event_type]), allowed)


def _pieces(retained: Retained, clock: Clock, names: Iterator[Name], allowed: PatternSet) -> Iterator[list[bytes]]:
    while some := list(islice(names, SNAPSHOT_EVENTS)):
        piece, size, now = [], 0, clock.now()
        for name in some:
            found = retained.snapshot(name, now)
            if found is not None and may_see(allowed, found[0].type, found[0].draft.about):
                piece.append(found[1])
                size += len(found[1])
                if size >= SNAPSHOT_BYTES:
                    yield piece
                    piece, size, now = [], 0, clock.now()
        yield piece


def _has_visible(event_type: str, allowed: PatternSet) -> bool:
    """Whether a token that covers `allowed` may see events of `event_type`."""
    return event_type in UNCOVERED_PATTERNS or allowed.matches(event_type)
