"""The events that tell of a polled backend, as drafts: one function for each of their types.

What has to be told is decided elsewhere; this is only what the events look like.
"""

import msgspec

from tidegate.core.built_in import BreakerState, RpcError, SourceFreshness
from tidegate.core.envelope import raw
from tidegate.core.events import About, Draft
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.polling.breaker_values import BreakerView, Transition
from tidegate.core.polling.episodes import Report
from tidegate.core.polling.source_values import FreshnessStatus, SourceSpec

FRESHNESS_TYPE = "source.freshness"

NULL = msgspec.Raw(b"null")


def value_draft(
    spec: SourceSpec,
    status: FreshnessStatus,
    key: str | None,
    data: msgspec.Raw,
    *,
    gone: bool,
    fresh_s: float | None,
) -> Draft:
    """A value of a source, or one of its items; with `gone`, an item that a good answer no longer has.

    `fresh_s` is for how many seconds it stays true if nothing but time passes; None if forever.
    """
    return Draft(
        type=spec.type,
        data=NULL if status.expired or gone else data,
        key=key,
        retain=True,
        gone=gone,
        source=spec.backend,
        stale=status.stale,
        as_of=status.as_of,
        error_code=status.error_code,
        retry_at=status.retry_at,
        cause=status.cause,
        expired=status.expired and not gone,
        fresh_s=None if gone else fresh_s,
    )


def freshness_draft(event_type: str, about: About, status: FreshnessStatus, *, fresh_s: float | None) -> Draft:
    """The verdict on the data of the source of `event_type`; `fresh_s` as for `value_draft`."""
    data = SourceFreshness(
        type=event_type,
        stale=status.stale,
        error_code=status.error_code,
        as_of=None if status.as_of is None else rfc3339(status.as_of),
    )
    return Draft(type=FRESHNESS_TYPE, data=raw(data), key=event_type, retain=True, about=about, fresh_s=fresh_s)


def restated(draft: Draft, status: FreshnessStatus, spec: SourceSpec, about: About, *, fresh_s: float | None) -> Draft:
    """Return what a `value_draft` or `freshness_draft` has to say if the verdict is `status`; itself if it is true."""
    if not status.stale:  # it is newer than `draft` shows, or about to be: nothing is called fresh in advance
        return draft
    if draft.type == FRESHNESS_TYPE:
        says_stale = msgspec.json.decode(draft.data, type=SourceFreshness).stale
        return draft if says_stale else freshness_draft(spec.type, about, status, fresh_s=fresh_s)
    if draft.stale and draft.expired == status.expired:
        return draft
    # Newer data may be on its way to the bus. Its `as_of` must not date what `draft` shows.
    status = msgspec.structs.replace(status, as_of=draft.as_of)
    return value_draft(spec, status, draft.key, draft.data, gone=False, fresh_s=fresh_s)


def gone_verdict(event_type: str, about: About) -> Draft:
    """The source of `event_type` is polled no longer: there is no verdict on its data."""
    return Draft(type=FRESHNESS_TYPE, data=NULL, key=event_type, retain=True, gone=True, about=about)


def gone_breaker(name: str, about: About) -> Draft:
    """There is no breaker `name` any more; `about` are the sources that it served."""
    return Draft(type="circuit_breaker.state", data=NULL, key=name, retain=True, gone=True, about=about)


def move_draft(move: Transition, about: About) -> Draft:
    """A move of a breaker; `about` are the sources that stand behind it."""
    data = BreakerState(
        breaker=move.breaker,
        state=move.state,
        from_state=move.from_state,
        reason=move.reason,
        forced=move.forced,
        failure_count=move.failure_count,
        open_count=move.open_count,
        opened_at=None if move.opened_at is None else rfc3339(move.opened_at),
        retry_at=None if move.retry_at is None else rfc3339(move.retry_at),
    )
    return Draft(type="circuit_breaker.state", data=raw(data), key=move.breaker, retain=True, about=about)


def error_draft(
    backend: str, event_type: str, about: About, report: Report, now: Instant, breaker: BreakerView
) -> Draft:
    """A failed call of the source of `event_type`."""
    retry_at = breaker.next_try_at(now)
    data = RpcError(
        backend=backend,
        source=event_type,
        error_code=report.fault.code,
        message=report.fault.message,
        consecutive_failures=report.consecutive_failures,
        retry_at=None if retry_at is None else rfc3339(retry_at),
        suppressed=report.suppressed,
    )
    return Draft(type="rpc_error", data=raw(data), about=about)
