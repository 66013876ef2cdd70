"""Where a source comes from, if not from nothing: another process, another definition, or another backend."""

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.carried import CarriedSource
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.episodes import ErrorReports
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.held_source import HeldSource
from tidegate.core.polling.leaving import Leaving
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_calls import SourceCalls

REQUESTS_SKIPPED = 1000
"""Request numbers that a resumed source leaves out: the process that had it before may have used some since it told.
At one call a second, these last that process for a quarter of an hour."""


def resumed(plan: SourcePlan, backend: BackendPlan, carried: CarriedSource, *, keeps: bool, now: Instant) -> Source:
    """Make a source that goes on where `carried` left off, without the call that was under way then."""
    source = Source(
        plan,
        backend,
        keeps=keeps,
        now=now,
        freshness=Freshness.from_carried(plan.spec, carried.freshness, now=now),
        reports=ErrorReports.from_carried(backend.rpc_error_interval_s, carried.reports, now=now),
        requests=carried.requests + REQUESTS_SKIPPED,
    )
    source.attempted = carried.attempted
    source.idle = carried.idle
    source.calls = SourceCalls.from_carried(carried.calls, now=now)
    source.missed_counted = carried.missed_counted
    return source


def followed(source: Source, plan: SourcePlan, backend: BackendPlan, *, now: Instant, into: Decision) -> Source:
    """Make a source for another value of the same type, which hands on what `source` has. Call `publish_changes`."""
    if source.plan.spec.keyed != plan.spec.keyed:
        source.forget_saved(into)
    successor = source.successor(plan, backend, now)
    successor.attempted, successor.missed_counted = source.attempted, source.missed_counted
    successor.staleness = source.staleness
    successor.calls = source.calls.handed_on()
    return successor


def adopted(plan: SourcePlan, backend: BackendPlan, held: HeldSource, *, keeps: bool, now: Instant) -> Source:
    """Make a source that hands on what another backend has answered. It publishes that with `publish_owed`."""
    return Source(plan, backend, keeps=keeps, now=now, freshness=Freshness.adopting(plan.spec, held))


def returned(plan: SourcePlan, backend: BackendPlan, leaving: Leaving, *, keeps: bool, now: Instant) -> Source:
    """Make a source that is back before the bus has taken that it is gone."""
    freshness = Freshness(plan.spec, said=leaving.said, told=leaving.told)
    return Source(plan, backend, keeps=keeps, now=now, freshness=freshness)
