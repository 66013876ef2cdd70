"""Plans and views of one backend, "engine", for tests of `tidegate.core.polling`."""

from typing import Any

import msgspec

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import BackendPlan, Call, SourcePlan
from tidegate.core.polling.breaker_values import BreakerRules, BreakerView, State
from tidegate.core.polling.outcome import ClassifyPolicy
from tidegate.core.polling.source_values import SourceSpec
from tidegate.errors import ErrorCode


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def breaker_view(
    state: State,
    *,
    cause: ErrorCode | None = None,
    retry_at: float | None = None,
    held_until: Instant | None = None,
) -> BreakerView:
    """A breaker in `state`, of which nothing is known but why, until when, and whether the backend is held."""
    return BreakerView(
        name="engine",
        state=state,
        forced=False,
        since=0.0,
        failure_count=0,
        success_count=0,
        open_count=0,
        open_max_s=15.0,
        half_open_successes=1,
        retry_at=retry_at,
        last_error=None,
        cause=cause,
        held_until=held_until,
    )


def source_plan(
    name: str,
    interval_s: float,
    *,
    breaker: str = "engine",
    key: str | None = None,
    idle_interval_s: float | None = None,
    **fields: Any,
) -> SourcePlan:
    """A source; `fields` are those of its `SourceSpec`. It is keyed if it has a `key`."""
    spec = SourceSpec(
        type=name, backend="engine", interval_s=interval_s, timeout_s=2.0, keyed=key is not None, **fields
    )
    return SourcePlan(spec=spec, call=Call(name), breaker=breaker, key=key, idle_interval_s=idle_interval_s)


def backend_plan(
    *sources: SourcePlan,
    rules: BreakerRules,
    batch: bool = False,
    connections: int = 16,
    rpc_error_interval_s: float = 5.0,
) -> BackendPlan:
    return BackendPlan(
        name="engine",
        timeout_s=2.0,
        batch=batch,
        connections=connections,
        breaker=rules,
        policy=ClassifyPolicy(),
        event_bytes=1000,
        rpc_error_interval_s=rpc_error_interval_s,
        sources=sources,
    )
