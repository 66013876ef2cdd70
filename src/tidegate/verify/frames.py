"""Decodes the messages of the gateway strictly, and without using any code of the gateway."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec

Name = tuple[str, str]
"""The name of a value: its event type and its key, "" if the type has no keys."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the gateway, as `docs/protocol.md` describes it. Absent fields are None or False."""

    type: str
    timestamp: str
    data: msgspec.Raw
    seq: int | None = None
    key: str | None = None
    source: str | None = None
    stale: bool | None = None
    as_of: str | None = None
    error_code: str | None = None
    retry_at: str | None = None
    cause: str | None = None
    expired: bool = False
    gone: bool = False
    snapshot: bool = False

    @property
    def name(self) -> Name:
        return self.type, self.key or ""

    @property
    def at(self) -> float:
        """When it was published, in Unix seconds of the gateway's clock."""
        return seconds(self.timestamp)

    @property
    def value(self) -> bytes:
        """`data`, byte for byte."""
        return bytes(self.data)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a `circuit_breaker.state` event."""

    breaker: str
    state: str
    from_state: str | None = msgspec.field(name="from")
    reason: str
    forced: bool
    failure_count: int
    open_count: int
    opened_at: str | None
    retry_at: str | None

    @property
    def period_s(self) -> float:
        """The open period in seconds. Only for a move to `open`."""
        assert self.opened_at is not None
        assert self.retry_at is not None
        return seconds(self.retry_at) - seconds(self.opened_at)


class ReportedError(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an `rpc_error` event."""

    backend: str
    source: str
    error_code: str
    message: str
    consecutive_failures: int
    retry_at: str | None
    suppressed: int


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a `welcome`: the fields that are checked."""

    epoch: str
    seq: int
    resumed: bool
    heartbeat_interval_s: float


class Place(msgspec.Struct, frozen=True):
    """The data of a `synced`."""

    epoch: str
    seq: int


_frames = msgspec.json.Decoder(Frame)
_moves = msgspec.json.Decoder(Move)
_errors = msgspec.json.Decoder(ReportedError)
_welcomes = msgspec.json.Decoder(Welcome)
_places = msgspec.json.Decoder(Place)
_data: Mapping[str, msgspec.json.Decoder[Any]] = {
    "circuit_breaker.state": _moves,
    "rpc_error": _errors,
    "welcome": _welcomes,
    "synced": _places,
}


def read_frame(text: str | bytes) -> Frame:
    """Decode a message. Raises `msgspec.MsgspecError` or `ValueError` if it does not match the protocol."""
    frame = _frames.decode(text)
    for time in (frame.timestamp, frame.as_of, frame.retry_at):
        if time is not None:
            seconds(time)
    if frame.type in _data:
        _data[frame.type].decode(frame.data)
    return frame


def read_move(frame: Frame) -> Move:
    """Decode the data of a `circuit_breaker.state` event."""
    return _moves.decode(frame.data)


def read_error(frame: Frame) -> ReportedError:
    """Decode the data of an `rpc_error` event."""
    return _errors.decode(frame.data)


def read_welcome(frame: Frame) -> Welcome:
    """Decode the data of a `welcome`."""
    return _welcomes.decode(frame.data)


def read_place(frame: Frame) -> Place:
    """Decode the data of a `synced`."""
    return _places.decode(frame.data)


def is_move(frame: Frame, breaker: str, state: str) -> bool:
    """Return whether `frame` is a live event (not a snapshot) which says that `breaker` moved to `state`."""
    return (
        frame.type == "circuit_breaker.state"
        and frame.key == breaker
        and not frame.snapshot
        and not frame.gone
        and read_move(frame).state == state
    )


def seconds(text: str) -> float:
    """Convert a time on the wire to Unix seconds. Raises `ValueError`."""
    return dt.datetime.fromisoformat(text).timestamp()


def clock(time: float) -> str:
    """Format Unix seconds for a report: the UTC time of day with milliseconds."""
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%H:%M:%S.%f")[:-3]
