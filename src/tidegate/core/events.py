"""What is published: drafts without a position, events with one, and positions themselves.

A draft becomes an event when the bus gives it a position (`envelope.event_at`). Both are values; nothing here knows
how they look on the wire. They hold no cycles, so the garbage collector is spared them (`gc=False`): thousands are
kept, and every full collection would look at each.
"""

from typing import Annotated, Literal, Self, get_args, get_type_hints

import msgspec

from tidegate.errors import ErrorCode, PositionError

About = frozenset[str] | None
"""The event types that a built-in event is about; None if it is about its own type alone."""

GapReason = Literal["epoch_changed", "history_truncated", "slow_consumer"]
"""Why events are missing: the epoch changed, the history is too short, or the client was too slow."""


SEQ_DIGITS = 1000


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in the sequence of events: `epoch` names the sequence, `seq` counts the events in it from 1."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``EPOCH:SEQ``; raise `PositionError` for anything else.

        A SEQ may have any number of digits. One that is longer than `SEQ_DIGITS` is cut to so many: that is still
        beyond every position, and Python reads no longer one.
        """
        epoch, colon, seq = text.rpartition(":")
        if not (colon and epoch and seq.isascii() and seq.isdecimal()):
            raise PositionError(f"expected a position of the form EPOCH:SEQ, got {text[:80]!r}")
        return cls(epoch, int(seq.lstrip("0")[:SEQ_DIGITS] or "0"))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


NOT_OURS = Position("", 0)
"""Stands for what a client took for a position and none of ours can be: no sequence has this name."""


UnixTime = Annotated[float, msgspec.Meta(description="Unix seconds")]
"""A moment that a draft tells: RFC 3339 in its envelope, and moved with a wall clock that is set."""


class Draft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that has no position yet.

    `data` is compact JSON in UTF-8. Events of a source carry `source`, `stale` and `as_of`; times are Unix seconds.
    `retain` keeps the event for new subscribers, `ttl_s` seconds at the longest where given; `gone` takes the
    retained event of its key away. `about` are the event types that a built-in event speaks of: who may see none of
    them may not see this event; events that speak of the same share one set, by which the hub routes them. `fresh_s`
    is for how many seconds from its publishing it stays true; after that, age alone may have made it untrue, so
    re-check it before sending it as a snapshot.
    """

    type: str
    data: msgspec.Raw
    # What its envelope tells stands together, in the envelope's order.
    key: str | None = None
    source: str | None = None
    stale: bool | None = None
    as_of: UnixTime | None = None
    error_code: ErrorCode | None = None
    retry_at: UnixTime | None = None
    cause: ErrorCode | None = None
    expired: bool = False
    gone: bool = False
    # The rest is for gateways alone.
    retain: bool = False
    ttl_s: float | None = None
    about: About = None
    fresh_s: float | None = None


DRAFT_TIMES = tuple(
    name for name, hint in get_type_hints(Draft, include_extras=True).items() if UnixTime in get_args(hint)
)
"""The fields of a draft that tell a moment."""


class EncodedDraft(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A draft whose envelope was encoded by its publisher: what a bus carries.

    `timestamp`, in Unix seconds, is when it was published. `json` is the envelope without ``seq``, which every
    receiver splices in at the offset `seq_at`: so the bytes are the same everywhere.
    """

    draft: Draft
    timestamp: float
    json: bytes
    seq_at: int


class Event(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A published event: its draft, its position, when it was published, and its whole envelope, encoded once.

    `timestamp` is in Unix seconds, by the publisher's clock. `age_s` is for how many seconds the bus had it before it
    delivered it here. A heartbeat has no position: its `seq` is None, and it is never kept.
    """

    draft: Draft
    seq: int | None
    timestamp: float
    json: bytes
    age_s: float = 0.0

    @property
    def type(self) -> str:
        """The draft's."""
        return self.draft.type

    @property
    def key(self) -> str | None:
        """The draft's."""
        return self.draft.key
