"""Response bodies for sources, circuit breakers and clients.

They have the fields of the runtime's own structs, with times as text. A field that is added to `SourceFacts` or
`BreakerFacts` is therefore also in the answers and in the OpenAPI document. Describe it in docs/protocol.md.
"""

from collections.abc import Iterable
from typing import Any, TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from tidegate.core.instant import Instant, Time, rfc3339
from tidegate.core.polling.breaker_values import BreakerFacts, BreakerView, Reason, State
from tidegate.core.polling.source_values import SourceFacts, SourceView
from tidegate.core.readings import Read
from tidegate.core.reloads import ReloadAttempt, ReloadOutcome
from tidegate.errors import ErrorCode
from tidegate.inbound.http_api.services import Reloading
from tidegate.runtime.connection import Connection

Body = TypeVar("Body")


class SourceStatus(SourceFacts, frozen=True, kw_only=True):
    """A polled source. If its data is older than `max_age_s`, it is stale even if no call has failed."""

    as_of: Time | None
    next_poll_at: Time | None


class LastError(msgspec.Struct, kw_only=True):
    """The latest failure that counted."""

    code: ErrorCode
    message: str
    at: Time


class BreakerStatus(BreakerFacts, frozen=True, kw_only=True):
    """A circuit breaker. Its name is that of its backend, or `backend/type` for a source with its own breaker."""

    since: Time
    retry_at: Time | None
    last_error: LastError | None


class BreakerMove(msgspec.Struct, kw_only=True):
    """A change of a breaker's state. `from` is null for the first one after a start."""

    at: Time
    from_state: State | None = msgspec.field(name="from")
    to: State
    reason: Reason


class BreakerRecord(BreakerStatus, frozen=True, kw_only=True):
    """A circuit breaker, and its last 32 changes of state, the oldest first."""

    history: list[BreakerMove]


class Breakers(msgspec.Struct):
    """All circuit breakers. `state` is the worst of their states."""

    state: State
    breakers: list[BreakerStatus]


class LastReload(msgspec.Struct, kw_only=True):
    """The latest attempt to reload the configuration. `problems` is how many kept it from being put in force."""

    at: Time
    outcome: ReloadOutcome
    problems: int


class ConfigStatus(msgspec.Struct, kw_only=True):
    """The configuration in force, and the keys that the file has with another value that only a restart would apply."""

    hash: str
    loaded_at: Time
    last_reload: LastReload | None
    needs_restart: list[str]


class StoreStatus(msgspec.Struct, kw_only=True):
    """The state directory: how many values wait to be written, when the last were, and the size of its files."""

    waiting_values: int
    last_success_at: Time
    bytes: int


class Status(msgspec.Struct, kw_only=True):
    """The status of the gateway, its sources and its breakers.

    The fields from `config` on are absent for a token with `types`. `refusals` counts refused requests by reason,
    `resumes` the clients that came back by what became of that; both since the start. `store` is null without a state
    directory.
    """

    version: str
    epoch: str
    seq: int
    started_at: Time
    uptime_s: float
    clients: int
    sources: list[SourceStatus]
    breakers: list[BreakerRecord]
    config: ConfigStatus | UnsetType = UNSET
    refusals: dict[str, int] | UnsetType = UNSET
    resumes: dict[str, int] | UnsetType = UNSET
    store: StoreStatus | UnsetType | None = UNSET


class Client(msgspec.Struct, kw_only=True):
    """A connected client. `request_id` is the id of the request that opened its connection.

    `skipped` counts the events that were dropped because it was too slow, by type.
    """

    id: str
    address: str
    request_id: str
    subscriptions: list[str]
    connected_at: Time
    queued_bytes: int
    delivered: int
    skipped: dict[str, int]


class Clients(msgspec.Struct):
    """All connected clients."""

    clients: list[Client]


def config_status(reloads: Reloading, now: Instant) -> ConfigStatus:
    """Make the body for the configuration in force. `now` is the current time."""
    return ConfigStatus(
        hash=reloads.config_hash,
        loaded_at=rfc3339(reloads.loaded_at.seen_at(now).wall),
        last_reload=None if reloads.last is None else _last_reload(reloads.last, now),
        needs_restart=list(reloads.needs_restart),
    )


def store_status(read: Read | None) -> StoreStatus | None:
    """Make the body for the state directory, from what the metrics `read` of it. None if there is none."""
    if read is None:
        return None
    values = {reading.name: reading.value for reading in read()}
    return StoreStatus(
        waiting_values=cast("int", values["tidegate_store_waiting_values"]),
        last_success_at=rfc3339(cast("float", values["tidegate_store_last_success_timestamp_seconds"])),
        bytes=cast("int", values["tidegate_store_bytes"]),
    )


def source_status(view: SourceView) -> SourceStatus:
    """Make the body for a source."""
    return _as(SourceStatus, view, as_of=_time(view.as_of), next_poll_at=_time(view.next_poll_at))


def breaker_status(view: BreakerView) -> BreakerStatus:
    """Make the body for a breaker."""
    return _as(BreakerStatus, view, **_times_of(view))


def breaker_record(view: BreakerView) -> BreakerRecord:
    """Make the body for a breaker with its history."""
    moves = [
        BreakerMove(at=rfc3339(move.at.wall), from_state=move.from_state, to=move.to, reason=move.reason)
        for move in view.history
    ]
    return _as(BreakerRecord, view, **_times_of(view), history=moves)


def worst(views: Iterable[BreakerView]) -> State:
    """Return the worst state: open, then half-open, then closed. Closed if there are no breakers."""
    return max((view.state for view in views), key=_BADNESS.index, default=State.CLOSED)


def client(connection: Connection, now: Instant) -> Client:
    """Make the body for a client. `now` is the current time."""
    return Client(
        id=connection.id,
        address=connection.address,
        request_id=connection.request_id,
        subscriptions=connection.patterns.sorted(),
        connected_at=rfc3339(connection.connected.seen_at(now).wall),
        queued_bytes=connection.subscriber.waiting_bytes,
        delivered=connection.subscriber.delivered,
        skipped=connection.subscriber.skipped,
    )


def _last_reload(attempt: ReloadAttempt, now: Instant) -> LastReload:
    return LastReload(
        at=rfc3339(attempt.ended.seen_at(now).wall), outcome=attempt.outcome, problems=len(attempt.problems)
    )


_BADNESS = (State.CLOSED, State.HALF_OPEN, State.OPEN)


def _as(body: type[Body], view: msgspec.Struct, **written: Any) -> Body:
    """Make a `body` with the fields of `view`, except for those that are given as `written`."""
    names = [name for name in body.__struct_fields__ if name not in written]  # type: ignore[attr-defined]
    return body(**{name: getattr(view, name) for name in names}, **written)


def _times_of(view: BreakerView) -> dict[str, Any]:
    failed = view.last_error
    last_error = failed and LastError(code=failed.code, message=failed.message, at=rfc3339(failed.at))
    return {"since": rfc3339(view.since), "retry_at": _time(view.retry_at), "last_error": last_error}


def _time(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
