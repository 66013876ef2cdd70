"""What is published: drafts without a position, events with one, and positions themselves.

A draft becomes an event when the bus gives it a position (`envelope.event_at`). Both are values. Knows nothing of how
they look on the wire. Values here cannot be part of a reference cycle, so the garbage collector need not track them
(`gc=False`). That matters because thousands are kept, and every full collection would visit each.
"""

from typing import Annotated, Literal, Self, get_args, get_type_hints

import msgspec

from tidegate.errors import ErrorCode, PositionError

About = frozenset[str] | None
"""The event types that a built-in event gives information about. None if an event is about its own type alone."""

GapReason = Literal["epoch_changed", "history_truncated", "slow_consumer"]
"""Why events are missing: the epoch changed, the history is too short, or the client was too slow."""


SEQ_DIGITS = 1000
"""A longer SEQ is cut to this many digits. Python refuses to convert much longer texts to an integer."""


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in the sequence of events: `epoch` names the sequence, `seq` counts the events in it from 1."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``EPOCH:SEQ``; raise `PositionError` for anything else.

        SEQ may have any number of digits. If there are more than `SEQ_DIGITS`, the rest is cut off: the number is still
        larger than that of every real position.
        """
        epoch, colon, seq = text.rpartition(":")
        if not (colon and epoch and seq.isascii() and seq.isdecimal()):
            raise PositionError(f"expected a position of the form EPOCH:SEQ, got {text[:80]!r}")
        return cls(epoch, int(seq.lstrip("0")[:SEQ_DIGITS] or "0"))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


NOT_OURS = Position("", 0)
"""Stands for a malformed position that a client sent. No sequence has this epoch, so it can never be resumed from."""


UnixTime = Annotated[float, msgspec.Meta(description="Unix seconds")]
"""A time in a draft. The envelope shows it as RFC 3339. If the wall clock is set, it is corrected."""


class Draft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that has no position yet.

    `data` is compact JSON in UTF-8. Events of a source have `source`, `stale` and `as_of`. Times are in Unix seconds.

    `retain`: keep the event for new subscribers, for at most `ttl_s` seconds if that is set. `gone`: the item of this
    key no longer exists, so remove its retained event.

    `about`: the event types that a built-in event gives information about. A client must be allowed to see at least
    one of them to see the event. Events about the same types share one set, by which the hub routes them.

    `fresh_s`: for how many seconds after it is published the event stays true. After that, age alone may have made it
    untrue, so check it again before sending it as a snapshot. None: age does not matter.
    """

    type: str
    data: msgspec.Raw
    # The fields that the envelope has too. They must be together, in the envelope's order (see `envelope._SHARED`).
    key: str | None = None
    source: str | None = None
    stale: bool | None = None
    as_of: UnixTime | None = None
    error_code: ErrorCode | None = None
    retry_at: UnixTime | None = None
    cause: ErrorCode | None = None
    expired: bool = False
    gone: bool = False
    # The other fields are not in the envelope.
    retain: bool = False
    ttl_s: float | None = None
    about: About = None
    fresh_s: float | None = None


def gone_draft(event_type: str, key: str) -> Draft:
    """Make the draft that removes a retained value. `key` is "" if the type has no keys."""
    return Draft(type=event_type, key=key or None, data=msgspec.Raw(b"null"), retain=True, gone=True)


DRAFT_TIMES = tuple(
    name for name, hint in get_type_hints(Draft, include_extras=True).items() if UnixTime in get_args(hint)
)
"""The fields of a draft that are times."""


class EncodedDraft(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A draft with its envelope, as the publisher encoded it. This is what a bus carries.

    `timestamp`, in Unix seconds, is when it was published. `json` is the envelope without ``seq``. Every receiver
    inserts ``seq`` at the offset `seq_at`, so the bytes are the same everywhere.
    """

    draft: Draft
    timestamp: float
    json: bytes
    seq_at: int


class Event(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A published event: its draft, its position, when it was published, and its whole envelope, encoded once.

    `timestamp` is in Unix seconds, by the publisher's clock. `age_s` is how many seconds passed between its publishing
    and its delivery here. A heartbeat has no position: its `seq` is None, and it is never kept.
    """

    draft: Draft
    seq: int | None
    timestamp: float
    json: bytes
    age_s: float = 0.0

    @property
    def type(self) -> str:
        """The event type, from the draft."""
        return self.draft.type

    @property
    def key(self) -> str | None:
        """The key, from the draft."""
        return self.draft.key
