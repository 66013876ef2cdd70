"""A source as it is shown to people."""

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_values import SourceView


def source_view(
    source: Source, now: Instant, breaker: BreakerView, *, next_poll_at: float, missed_ticks: int
) -> SourceView:
    """Return `source` as it is shown at `now`. `next_poll_at` is in Unix seconds."""
    status, spec = source.freshness.status(now, breaker), source.plan.spec
    return SourceView(
        type=source.type,
        backend=spec.backend,
        interval_s=source.interval_s,
        timeout_s=spec.timeout_s,
        max_age_s=source.freshness.max_age_s,
        on_change=spec.on_change,
        stale=status.stale,
        error_code=status.error_code,
        missed_ticks=missed_ticks,
        as_of=status.as_of,
        next_poll_at=next_poll_at,
    )
