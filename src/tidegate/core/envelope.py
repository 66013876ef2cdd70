"""Every message that the gateway sends to its clients, as msgspec structs, and how it is encoded.

An event is encoded once, when it is published. Its snapshot is made from the same bytes. The AsyncAPI document is made
from these classes: their docstrings are its descriptions. Knows nothing of frames (`tidegate.core.delivery.framing`) or
of who receives what.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import astuple

from tidegate.core.events import DRAFT_TIMES, NOT_OURS, Draft, EncodedDraft, Event, GapReason, Position
from tidegate.core.instant import Time, rfc3339
from tidegate.errors import ErrorCode, MessageErrorCode

PROTOCOL_VERSION = 1


class EventEnvelope(msgspec.Struct, kw_only=True):
    """An event as clients see it. Absent fields are left out, never null."""

    type: str
    timestamp: Time
    seq: int | UnsetType = UNSET
    key: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    stale: bool | UnsetType = UNSET
    as_of: Time | UnsetType = UNSET
    error_code: ErrorCode | UnsetType = UNSET
    retry_at: Time | UnsetType = UNSET
    cause: ErrorCode | UnsetType = UNSET
    expired: bool | UnsetType = UNSET
    gone: bool | UnsetType = UNSET
    snapshot: bool | UnsetType = UNSET
    data: Raw


class Message(msgspec.Struct, kw_only=True, tag_field="type", tag=str.lower):
    """A message to one connection alone. It has no `seq` and is not kept in the history."""

    timestamp: Time


class WelcomeData(msgspec.Struct, kw_only=True):
    client_id: str
    request_id: str
    protocol: int
    server: str
    epoch: str
    seq: int
    resumed: bool
    subscriptions: list[str]
    heartbeat_interval_s: float


class Welcome(Message, kw_only=True):
    """The first message of every connection. The stream begins at `data.seq`; `synced` says when that is complete."""

    data: WelcomeData


class SyncedData(msgspec.Struct, kw_only=True):
    epoch: str
    seq: int


class Synced(Message, kw_only=True):
    """Everything up to this position that the subscription matches has been sent, or is named in a gap.

    It comes after the snapshots or the replay that follow `welcome`, `subscribed`, `authenticated` or a gap.
    """

    data: SyncedData


class SubscribedData(msgspec.Struct, kw_only=True):
    types: list[str]
    added: list[str]
    epoch: str
    seq: int


class Subscribed(Message, kw_only=True):
    """The answer to a subscribe. The snapshots of the added types follow."""

    id: Raw | UnsetType = UNSET
    data: SubscribedData


class UnsubscribedData(msgspec.Struct, kw_only=True):
    types: list[str]
    removed: list[str]


class Unsubscribed(Message, kw_only=True):
    """The answer to an unsubscribe. No event that only the removed patterns match comes after it."""

    id: Raw | UnsetType = UNSET
    data: UnsubscribedData


class AuthenticatedData(msgspec.Struct, kw_only=True):
    types: list[str]


class Authenticated(Message, kw_only=True):
    """The connection's token was renewed. `data.types` are the patterns that the new token still covers."""

    id: Raw | UnsetType = UNSET
    data: AuthenticatedData


class Empty(msgspec.Struct):
    pass


class Pong(Message, kw_only=True):
    """The answer to a ping message."""

    id: Raw | UnsetType = UNSET
    data: Empty = msgspec.field(default_factory=Empty)


class ErrorData(msgspec.Struct, kw_only=True):
    code: MessageErrorCode
    message: str
    retryable: bool


class Error(Message, kw_only=True):
    """A client's message was refused. The connection stays open."""

    id: Raw | UnsetType = UNSET
    data: ErrorData


class GapData(msgspec.Struct, kw_only=True):
    reason: GapReason
    requested: str | None
    skipped: dict[str, int]


class Gap(Message, kw_only=True):
    """Events are missing here. `data.skipped` counts them by type, as far as they can be counted."""

    data: GapData


class ConnectionErrorData(msgspec.Struct, kw_only=True):
    code: int
    message: str
    retryable: bool


class ConnectionError(Message, kw_only=True, tag="connection_error"):  # noqa: A001 - the contract's name
    """The connection is about to be closed. `data.code` is the close code that follows."""

    data: ConnectionErrorData


class NotificationData(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A notice. `retry_after_ms` is present if the gateway is draining."""

    level: Literal["info", "warning", "error"]
    message: str
    code: str | None = None
    retry_after_ms: int | None = None


class Notification(Message, kw_only=True):
    """A notice to one connection alone, such as that the gateway drains. Published notices are events of this type."""

    data: NotificationData


_encoder = msgspec.json.Encoder()


_SEQ_AT = len(b'{"type":"","timestamp":"2026-01-01T00:00:00.000Z",')
"""The offset in an envelope at which ``seq`` is inserted, less the length of the type, which needs no escapes."""


_SHARED_FIELDS = tuple(
    name for name in Draft.__struct_fields__ if name in EventEnvelope.__struct_fields__ and name not in {"type", "data"}
)
_FIRST = Draft.__struct_fields__.index(_SHARED_FIELDS[0])
_SHARED = slice(_FIRST, _FIRST + len(_SHARED_FIELDS))
"""The fields of a draft that the envelope has under the same name.

They are together in a draft, so that one slice takes them all. Looking up each one takes as long as encoding them.
"""
assert Draft.__struct_fields__[_SHARED] == _SHARED_FIELDS, "a draft has the fields of its envelope together"

_TIMES = tuple((_SHARED_FIELDS.index(name), name) for name in DRAFT_TIMES)

_LooseEnvelope = msgspec.defstruct(
    "_LooseEnvelope",
    [
        ("type", Any),
        ("timestamp", Any),
        ("seq", Any, UNSET),
        *zip(_SHARED_FIELDS, [Any] * len(_SHARED_FIELDS), astuple(Draft(type="", data=Raw(b"")))[_SHARED], strict=True),
        ("snapshot", Any, UNSET),
        ("data", Any, UNSET),
    ],
    omit_defaults=True,
)
"""`EventEnvelope` with the defaults of `Draft`. msgspec leaves these out, so Python code need not look at any field."""


def encode(value: Any) -> bytes:
    """Return any message or data struct as compact JSON."""
    return _encoder.encode(value)


def raw(value: Any) -> Raw:
    """Return a data struct or plain value as compact JSON, for the `data` of a draft."""
    return Raw(_encoder.encode(value))


def encode_draft(draft: Draft, *, timestamp: float) -> EncodedDraft:
    """Encode `draft` as its publisher passes it to the bus at `timestamp` (Unix seconds).

    Its `as_of` becomes at most `timestamp`: the clock may have been set back since the draft was made.
    """
    if draft.as_of is not None and draft.as_of > timestamp:
        draft = msgspec.structs.replace(draft, as_of=timestamp)
    json = _encoder.encode(_envelope(draft, seq=UNSET, timestamp=timestamp))
    return EncodedDraft(draft, timestamp, json, _SEQ_AT + len(draft.type))


def event_at(seq: int, encoded: EncodedDraft, *, age_s: float = 0.0) -> Event:
    """Return `encoded` as an event at position `seq`, delivered `age_s` seconds after the bus took it."""
    json, at = encoded.json, encoded.seq_at
    return Event(encoded.draft, seq, encoded.timestamp, b'%b"seq":%d,%b' % (json[:at], seq, json[at:]), age_s)


def event_without_position(draft: Draft, *, timestamp: float) -> Event:
    """Return `draft` as an event that has no position, such as a heartbeat."""
    encoded = encode_draft(draft, timestamp=timestamp)
    return Event(encoded.draft, None, timestamp, encoded.json)


def encode_snapshot(event: Event) -> bytes:
    """Return the snapshot of `event` as it was published."""
    return event.json[:-1] + b',"snapshot":true}'


def encode_restated(event: Event, draft: Draft) -> bytes:
    """Return the snapshot of `event`, but with the content of `draft`."""
    envelope = _envelope(draft, seq=UNSET if event.seq is None else event.seq, timestamp=event.timestamp)
    envelope.snapshot = True
    return _encoder.encode(envelope)


def encode_synced(position: Position, *, timestamp: float) -> bytes:
    """Return the `synced` message: everything up to `position` was sent."""
    return _encoder.encode(
        Synced(timestamp=rfc3339(timestamp), data=SyncedData(epoch=position.epoch, seq=position.seq))
    )


def encode_gap(
    reason: GapReason, *, timestamp: float, requested: Position | str | None = None, skipped: dict[str, int]
) -> bytes:
    """Return a `gap` message. `skipped` counts the missing events by type, as far as they can be counted."""
    shown = None if requested in (None, NOT_OURS) else str(requested)
    data = GapData(reason=reason, requested=shown, skipped=skipped)
    return _encoder.encode(Gap(timestamp=rfc3339(timestamp), data=data))


def _envelope(draft: Draft, *, seq: int | UnsetType, timestamp: float) -> Any:
    shared = astuple(draft)[_SHARED]
    envelope = _LooseEnvelope(draft.type, rfc3339(timestamp), seq, *shared, UNSET, draft.data)
    for at, name in _TIMES:
        if (moment := shared[at]) is not None:
            setattr(envelope, name, rfc3339(moment))
    return envelope
