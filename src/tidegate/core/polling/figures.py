"""What is read of a backend when its metrics are scraped: the present state of its sources and breakers.

Read one by one, since there may be many, and others need the event loop meanwhile.
"""

from collections.abc import Callable, Iterator

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.breaker_values import BreakerView, State
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_values import FreshnessStatus
from tidegate.core.readings import Reading


def backend_readings(name: str, parts: BackendParts, clock: Callable[[], Instant]) -> Iterator[Reading]:
    """Yield the readings of the backend `name`, of its breakers and of its sources. `clock` returns the time."""
    breakers = list(parts.breakers.values())
    yield Reading("tidegate_late_results_total", sum(breaker.late_results for breaker in breakers), (name,))
    for breaker in breakers:
        if breaker.name in parts.breakers:  # it was not taken away since the last reading
            yield from _breaker_readings(parts.view(breaker.name, clock()), parts.open_s(breaker.name, clock()))
    for source in list(parts.sources.values()):
        if source.type in parts.sources:
            now = clock()
            yield from _source_readings(source, source.note_verdict(now, parts.seen_by(source, now)), now)


def _breaker_readings(view: BreakerView, open_s: float) -> Iterator[Reading]:
    name = view.name
    for state in State:
        yield Reading("tidegate_breaker_state", int(view.state is state), (name, state.value))
    yield Reading("tidegate_breaker_forced", int(view.forced), (name,))
    yield Reading("tidegate_breaker_open_seconds_total", open_s, (name,))


def _source_readings(source: Source, status: FreshnessStatus, now: Instant) -> Iterator[Reading]:
    labels = (source.type,)
    yield Reading("tidegate_source_stale", int(status.stale), labels)
    yield Reading("tidegate_source_stale_seconds_total", source.staleness.stale_s(now), labels)
    yield Reading("tidegate_source_fresh_until_timestamp_seconds", source.staleness.edge(now), labels)
    if status.as_of is not None:
        yield Reading("tidegate_source_as_of_timestamp_seconds", status.as_of, labels)
