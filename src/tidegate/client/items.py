"""The items that a stream yields: events, gaps, and changes of the connection. All are immutable values."""

from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Any message of the server. A field that is absent on the wire is None or False here."""

    type: str
    timestamp: datetime
    seq: int | None = None
    key: str | None = None
    source: str | None = None
    stale: bool | None = None
    as_of: datetime | None = None
    error_code: str | None = None
    retry_at: datetime | None = None
    cause: str | None = None
    expired: bool = False
    gone: bool = False
    snapshot: bool = False
    data_json: msgspec.Raw = msgspec.field(name="data")


class Event(Message, frozen=True, kw_only=True, dict=True):
    """An event. `raw` is the whole envelope and `data_json` its data, both exactly as they were sent.

    `seq`: the event's place in the sequence; None for an event that concerns only this connection.
    `stale`: whether the value may be outdated; None if events of this type have no freshness.
    `as_of`: when the gateway sent the request that this data answers.
    `error_code`: why the value is stale. `retry_at` and `cause` are set while a circuit breaker is open.
    `snapshot`: this is a current value, sent to a new subscriber with its original `seq` and `timestamp`.
    `gone`: the value no longer exists. `expired`: the value is too old to be shown.
    """

    raw: bytes

    @cached_property
    def data(self) -> Any:
        """The data as Python values, decoded on first access. To decode into a type of your own, use `data_json`."""
        return msgspec.json.decode(self.data_json)


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Events are missing at this point. `reason` is epoch_changed, history_truncated or slow_consumer.

    `skipped` counts the missing events by type, as far as the server knows. `requested` is the position from which the
    stream could not be resumed. After epoch_changed and history_truncated, the current values follow as snapshots.
    """

    reason: str
    requested: str | None
    skipped: dict[str, int]
    timestamp: datetime
    raw: bytes


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """A connection is open. `resumed`: all events since the requested position follow, without a gap."""

    resumed: bool
    client_id: str
    server: str
    subscriptions: tuple[str, ...]
    heartbeat_interval_s: float


class Disconnected(msgspec.Struct, frozen=True, kw_only=True):
    """The connection failed or ended. The stream reconnects in `retry_in_s` seconds.

    `reason` says why. `code` is the WebSocket close code, or None if the connection was not closed by the server.
    """

    reason: str
    retry_in_s: float
    code: int | None = None


Item = Event | Gap | Connected | Disconnected

_decoder = msgspec.json.Decoder(Message)

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `decode_message` raises for bytes that are no message: not JSON, not UTF-8, or nested too deep."""


def decode_message(raw: bytes) -> Message:
    """Decode a message of the server. Raises one of `UNREADABLE`."""
    return _decoder.decode(raw)


def event_of(frame: Message, raw: bytes) -> Event:
    """Make an event of `frame`, which was decoded from `raw`."""
    return Event(raw=raw, **{name: getattr(frame, name) for name in Message.__struct_fields__})
