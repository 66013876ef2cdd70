"""Plans, sources and views of one backend, "engine", for tests of `tidegate.core.polling`."""

from typing import Any

import msgspec

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import BackendPlan, Call, SourcePlan
from tidegate.core.polling.breaker_values import BreakerRules, BreakerView, State
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.outcome import Answer, ClassifyPolicy, Outcome
from tidegate.core.polling.source import Source
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
    retry_s: float = 0.0,
) -> BackendPlan:
    """Without `retry_s` no failed call is repeated, so that most tests have only the calls that they are about."""
    return BackendPlan(
        name="engine",
        timeout_s=2.0,
        batch=batch,
        connections=connections,
        breaker=rules,
        policy=ClassifyPolicy(),
        event_bytes=1000,
        rpc_error_interval_s=rpc_error_interval_s,
        retry_s=retry_s,
        sources=sources,
    )


def polled(plan: BackendPlan) -> dict[str, Source]:
    """The sources of `plan`, by name, of which nothing was asked yet."""
    return {each.spec.type: Source(each, plan, keeps=False) for each in plan.sources}


def call_ended(
    source: Source,
    outcome: Outcome,
    now: Instant,
    *,
    breaker: BreakerView | None = None,
    secret: bytes | None = None,
    jitter: float = 0.0,
) -> None:
    """A call of `source` began and ended `now`, with `outcome`; an answer has the value 0."""
    source.calls.sent(now, at_tick=True)
    source.calls.end_turn()
    source.ended(
        outcome,
        raw(0) if isinstance(outcome, Answer) else None,
        sent=now,
        now=now,
        breaker=breaker_view(State.CLOSED) if breaker is None else breaker,
        draw=lambda: jitter,
        into=Decision(),
        secret=secret,
    )
