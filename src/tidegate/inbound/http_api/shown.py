"""What the API shows of sources, circuit breakers and clients.

A body here is what the runtime says of a thing, field by field, with times written as text. So a field that is added to
`SourceFacts` or `BreakerFacts` is in the answers and in the OpenAPI document too; whoever adds it says so in
docs/protocol.md.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from tidegate.core.breaker_values import BreakerFacts, BreakerView, Reason, State
from tidegate.core.instant import Instant, Time, rfc3339
from tidegate.core.source_values import SourceFacts, SourceView
from tidegate.errors import ErrorCode
from tidegate.runtime.connection import Connection

Body = TypeVar("Body")


class SourceStatus(SourceFacts, frozen=True, kw_only=True):
    """A polled source. Older than `max_age_s` its data is stale although no call has failed."""

    as_of: Time | None
    next_poll_at: Time | None


class LastError(msgspec.Struct, kw_only=True):
    """The newest failure that counted."""

    code: ErrorCode
    message: str
    at: Time


class BreakerStatus(BreakerFacts, frozen=True, kw_only=True):
    """A circuit breaker; named after its backend, or `backend/type` for a source's own."""

    since: Time
    retry_at: Time | None
    last_error: LastError | None


class BreakerMove(msgspec.Struct, kw_only=True):
    """A breaker moved; `from` is null for the first of a process."""

    at: Time
    from_state: State | None = msgspec.field(name="from")
    to: State
    reason: Reason


class BreakerRecord(BreakerStatus, frozen=True, kw_only=True):
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


def source_status(view: SourceView) -> SourceStatus:
    """A source as clients see it."""
    return _as(SourceStatus, view, as_of=_time(view.as_of), next_poll_at=_time(view.next_poll_at))


def breaker_status(view: BreakerView) -> BreakerStatus:
    """A breaker as clients see it."""
    return _as(BreakerStatus, view, **_times_of(view))


def breaker_record(view: BreakerView) -> BreakerRecord:
    """A breaker as clients see it, and how it came to its state."""
    moves = [
        BreakerMove(at=rfc3339(move.at.wall), from_state=move.from_state, to=move.to, reason=move.reason)
        for move in view.history
    ]
    return _as(BreakerRecord, view, **_times_of(view), history=moves)


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


_BADNESS = (State.CLOSED, State.HALF_OPEN, State.OPEN)


def _as(body: type[Body], view: msgspec.Struct, **written: Any) -> Body:
    """A `body` of the fields of the same names in `view`, but for those that are `written` otherwise here."""
    names = [name for name in body.__struct_fields__ if name not in written]  # type: ignore[attr-defined]
    return body(**{name: getattr(view, name) for name in names}, **written)


def _times_of(view: BreakerView) -> dict[str, Any]:
    failed = view.last_error
    last_error = failed and LastError(code=failed.code, message=failed.message, at=rfc3339(failed.at))
    return {"since": rfc3339(view.since), "retry_at": _time(view.retry_at), "last_error": last_error}


def _time(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
