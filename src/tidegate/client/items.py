"""What a stream yields: events, gaps, and changes of the connection, all values."""

from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Any message of the server. What is absent on the wire is None or False here."""

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
    """An event. `raw` is the whole envelope and `data_json` its data, both as they were sent.

    `stale` is None where the type has no freshness. `as_of` is when the request was sent whose answer this data is;
    `error_code` says why it is stale, `retry_at` and `cause` speak of an open breaker. `snapshot` marks a current
    value handed over at the beginning, with the `seq` and `timestamp` it was published with. `gone`: the value is no
    more; `expired`: it is too old to show. `seq` is None on what concerns this connection alone.
    """

    raw: bytes

    @cached_property
    def data(self) -> Any:
        """The data as Python values, decoded when first asked for. Use `data_json` to decode into a type."""
        return msgspec.json.decode(self.data_json)


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Events are missing here. `reason` is epoch_changed, history_truncated or slow_consumer.

    `skipped` counts them by event type as far as the server could; `requested` is the position that could not be
    resumed from. After the first two reasons the current values follow as snapshots.
    """

    reason: str
    requested: str | None
    skipped: dict[str, int]
    timestamp: datetime
    raw: bytes


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """A connection is open. `resumed`: everything since the position asked for follows, without a gap."""

    resumed: bool
    client_id: str
    server: str
    subscriptions: tuple[str, ...]
    heartbeat_interval_s: float


class Disconnected(msgspec.Struct, frozen=True, kw_only=True):
    """There is no connection, `reason` says why; the next attempt follows in `retry_in_s` seconds.

    `code` is the close code where the server closed, else None.
    """

    reason: str
    retry_in_s: float
    code: int | None = None


Item = Event | Gap | Connected | Disconnected

_decoder = msgspec.json.Decoder(Message)

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a message of the server raises where it is none: not JSON, not UTF-8, or nested too deep to be read."""


def decode_message(raw: bytes) -> Message:
    """Any message of the server. Raises one of `UNREADABLE` for what is none."""
    return _decoder.decode(raw)


def event_of(frame: Message, raw: bytes) -> Event:
    """The event that `frame`, decoded from `raw`, is."""
    return Event(raw=raw, **{name: getattr(frame, name) for name in Message.__struct_fields__})
