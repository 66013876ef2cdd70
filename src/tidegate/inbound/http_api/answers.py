"""The bodies of the API, as structs, and how the runtime's values become them."""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from tidegate.core.breaker import BreakerView, Reason, State
from tidegate.core.envelope import EventEnvelope
from tidegate.core.events import Position
from tidegate.core.grant import Grant, Role
from tidegate.core.instant import Instant, Time, rfc3339
from tidegate.core.source import SourceFacts, SourceView
from tidegate.core.topics import MAX_CHARACTERS, MAX_SEGMENTS
from tidegate.errors import ErrorCode
from tidegate.inbound.http_api.services import AuthMode
from tidegate.runtime.connection import Connection
from tidegate.runtime.supervisor import ReadinessStatus

EVENT_TYPE_SCHEMA = {
    "pattern": rf"^[a-z0-9_-]+(\.[a-z0-9_-]+){{0,{MAX_SEGMENTS - 1}}}$",
    "maxLength": MAX_CHARACTERS,
}

_PATTERN = rf"([a-z0-9_-]+(\.[a-z0-9_-]+){{0,{MAX_SEGMENTS - 1}}}(\.\*)?|\*)?"
PATTERNS_SCHEMA = {"pattern": f"^{_PATTERN}(,{_PATTERN})*$"}

POSITION_SCHEMA = {"pattern": r"^([\s\S]+:[0-9]+)?$"}

MAX_KEY = 256

END_OF_TIME = 253_402_300_799.0
"""The last second that RFC 3339 can write, in Unix seconds: a token that is good for longer is good for ever."""

Action = Literal["force-open", "force-closed", "reset"]


class Health(msgspec.Struct):
    """The process serves."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct):
    """`stale` counts the sources that are stale; there only when degraded."""

    status: Literal["ready", "degraded"]
    stale: int | UnsetType = UNSET


class NotReady(msgspec.Struct):
    """Before every source's first attempt has ended, or while the gateway drains."""

    status: Literal["starting", "draining"]


class Session(msgspec.Struct, kw_only=True):
    """What the caller may do. `types` null is everything; without a valid token `roles` and `types` are empty.

    `authenticated` is null while nobody can check tokens yet. `retry_after_s` is null unless a stream would be refused
    now for want of something that will come: room, the end of a drain, keys.
    """

    version: str
    auth: AuthMode
    authenticated: bool | None
    roles: list[Role]
    types: list[str] | None
    expires_at: Time | None
    status: ReadinessStatus
    retry_after_s: int | None
    now: Time


class SourceStatus(SourceFacts, frozen=True, kw_only=True):
    """A polled source. Older than `max_age_s` its data is stale although no call has failed."""

    as_of: Time | None
    next_poll_at: Time | None


class LastError(msgspec.Struct, kw_only=True):
    """The newest failure that counted."""

    code: ErrorCode
    message: str
    at: Time


class BreakerStatus(msgspec.Struct, kw_only=True):
    """A circuit breaker; named after its backend, or `backend/type` for a source's own."""

    name: str
    state: State
    forced: bool
    since: Time
    failure_count: int
    success_count: int
    open_count: int
    retry_at: Time | None
    last_error: LastError | None


class BreakerMove(msgspec.Struct, kw_only=True):
    """A breaker moved; `from` is null for the first of a process."""

    at: Time
    from_state: State | None = msgspec.field(name="from")
    to: State
    reason: Reason


class BreakerRecord(BreakerStatus, kw_only=True):
    """A circuit breaker, and its last 32 moves, the oldest first."""

    history: list[BreakerMove]


class Breakers(msgspec.Struct):
    """`state` is the worst of all."""

    state: State
    breakers: list[BreakerStatus]


class Status(msgspec.Struct, kw_only=True):
    """The gateway at a glance."""

    version: str
    epoch: str
    seq: int
    started_at: Time
    uptime_s: float
    clients: int
    sources: list[SourceStatus]
    breakers: list[BreakerRecord]


class Snapshot(msgspec.Struct):
    """The retained events, as a new subscriber would be handed them. `seq` is the position at the beginning."""

    epoch: str
    seq: int
    events: list[EventEnvelope]


class Published(msgspec.Struct):
    """The position of the last event that was published."""

    epoch: str
    seq: int


class Publication(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An event to publish. With `retain` new subscribers are handed it, for `ttl_s` seconds if that is given."""

    type: Annotated[str, Meta(extra_json_schema=EVENT_TYPE_SCHEMA)]
    data: Raw
    key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY)] | None = None
    retain: bool = False
    ttl_s: Annotated[float, Meta(gt=0)] | None = None


class Polled(msgspec.Struct):
    """Whose sources are polled now."""

    backend: str


class Client(msgspec.Struct, kw_only=True):
    """A connected client; `skipped` counts the events that it was too slow for, by type."""

    id: str
    address: str
    subscriptions: list[str]
    connected_at: Time
    queued_bytes: int
    delivered: int
    skipped: dict[str, int]


class Clients(msgspec.Struct):
    """Everyone who is connected."""

    clients: list[Client]


def what_is_granted(grant: Grant | None) -> tuple[list[Role], list[str] | None, Time | None]:
    """Roles, types and end of a grant as `Session` tells them; None grants nothing."""
    if grant is None:
        return [], [], None
    roles = [role for role in Role if role in grant.roles]
    types = None if grant.allowed.covers("*") else grant.allowed.sorted()
    ends = grant.expires_at is not None and grant.expires_at < END_OF_TIME
    return roles, types, _time(grant.expires_at) if ends else None


def source_status(view: SourceView) -> SourceStatus:
    """A source as clients see it."""
    times = {"as_of": _time(view.as_of), "next_poll_at": _time(view.next_poll_at)}
    return SourceStatus(**msgspec.structs.asdict(view) | times)


def breaker_status(view: BreakerView) -> BreakerStatus:
    """A breaker as clients see it."""
    error = view.last_error
    return BreakerStatus(
        name=view.name,
        state=view.state,
        forced=view.forced,
        since=rfc3339(view.since),
        failure_count=view.failure_count,
        success_count=view.success_count,
        open_count=view.open_count,
        retry_at=_time(view.retry_at),
        last_error=None if error is None else LastError(code=error.code, message=error.message, at=rfc3339(error.at)),
    )


def breaker_record(view: BreakerView) -> BreakerRecord:
    """A breaker as clients see it, and how it came to its state."""
    moves = [
        BreakerMove(at=rfc3339(move.at.wall), from_state=move.from_state, to=move.to, reason=move.reason)
        for move in view.history
    ]
    return BreakerRecord(**msgspec.structs.asdict(breaker_status(view)), history=moves)


def worst(views: Iterable[BreakerView]) -> State:
    """Open is worse than half-open, which is worse than closed; closed where there is none."""
    return max((view.state for view in views), key=_BADNESS.index, default=State.CLOSED)


def client(connection: Connection, now: Instant) -> Client:
    """A client as operators see it, `now`."""
    return Client(
        id=connection.id,
        address=connection.address,
        subscriptions=connection.patterns.sorted(),
        connected_at=rfc3339(connection.connected.seen_at(now).wall),
        queued_bytes=connection.subscriber.waiting_bytes,
        delivered=connection.subscriber.delivered,
        skipped=connection.subscriber.skipped,
    )


def published(position: Position) -> Published:
    """A position as the answer to a publisher."""
    return Published(position.epoch, position.seq)


_BADNESS = (State.CLOSED, State.HALF_OPEN, State.OPEN)


def _time(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
