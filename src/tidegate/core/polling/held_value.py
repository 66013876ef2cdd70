"""The last good value of one source, how its newest call ended, and the verdict that follows from both.

What of it subscribers have been told is kept in `tidegate.core.polling.freshness`. Ages are monotonic. `as_of` is wall
time and only shown.
"""

from typing import Self

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.carried import CarriedFreshness, carried_items, carried_told, items_from
from tidegate.core.polling.source_values import FreshnessStatus, Items, SourceSpec, Told, Value, by_key
from tidegate.errors import ErrorCode


class HeldValue:
    """What is known of one source's data. Requests have numbers, from 1, in the order in which they are sent."""

    __slots__ = ("_spec", "attempt", "failure", "interval_s", "items", "limit_s", "request", "sent", "unasked")

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self.interval_s = spec.interval_s
        self.limit_s = self.max_age_s
        """The age at which the value is stale without a failed call."""
        self.items: Items = {}
        """Each good answer is a mapping of its own."""
        self.sent: Instant | None = None
        """When the value was asked for; of a restored value, its `as_of`."""
        self.request = 0
        """Which request brought the value; 0 also for a restored value."""
        self.attempt = 0
        """The newest request that has ended."""
        self.failure: ErrorCode | None = None
        """The error that it ended with, if any."""
        self.unasked = ErrorCode.RESTORED
        """Why the value is stale before any request has brought one."""

    @classmethod
    def from_carried(cls, spec: SourceSpec, carried: CarriedFreshness, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off."""
        resumed = cls(spec)
        resumed.interval_s = carried.interval_s
        resumed.limit_s = carried.limit_s
        resumed.items = items_from(carried.items)
        resumed.sent = None if carried.sent_at is None else now.when(carried.sent_at)
        resumed.request = carried.held_request
        resumed.attempt = carried.attempt
        resumed.failure = carried.failure
        resumed.unasked = ErrorCode.RELOADED if carried.is_reloaded else ErrorCode.RESTORED
        return resumed

    @classmethod
    def handing_on(cls, spec: SourceSpec, items: Items, sent: Instant | None) -> Self:
        """Make one that holds a value that was asked for in another way, at `sent`; None if there is none."""
        handed_on = cls(spec)
        handed_on.items, handed_on.sent, handed_on.unasked = items, sent, ErrorCode.RELOADED
        return handed_on

    def carried(self, now: Instant, *, is_known: bool, told: Told) -> CarriedFreshness:
        """The whole state at `now`, with the rest of the state of its `Freshness`."""
        return CarriedFreshness(
            interval_s=self.interval_s,
            limit_s=self.limit_s,
            items=carried_items(self.items),
            sent_at=None if self.sent is None else self.sent.seen_at(now).wall,
            held_request=self.request,
            attempt=self.attempt,
            failure=self.failure,
            is_known=is_known,
            is_reloaded=self.unasked is ErrorCode.RELOADED,
            told=carried_told(told, self.items),
        )

    @property
    def max_age_s(self) -> float:
        """The age at which a value is stale without a failed call, at the current interval."""
        return max(2 * self.interval_s, self.interval_s + self._spec.timeout_s)

    def follow(self, spec: SourceSpec, interval_s: float) -> None:
        """Judge the value by another `spec` from now on, and ask every `interval_s`. The age limit is the new one."""
        self._spec = spec
        self.interval_s = interval_s
        self.limit_s = self.max_age_s

    def set_interval(self, interval_s: float) -> None:
        """Ask every `interval_s` from now on. A value asked for at a longer interval keeps its longer age limit."""
        self.interval_s = interval_s
        self.limit_s = max(self.limit_s, self.max_age_s)

    def status(self, now: Instant, breaker: BreakerView) -> FreshnessStatus:
        """Return the verdict of now."""
        code = self._why_stale(now, breaker)
        stale = code is not None or self.sent is None
        return FreshnessStatus(
            stale=stale,
            error_code=code,
            as_of=self._as_of(now),
            retry_at=breaker.next_try_at(now) if stale else None,
            cause=breaker.cause,
            expired=stale and self._is_too_old(now),
        )

    @property
    def fresh_until(self) -> Instant | None:
        """When age alone makes the value stale; None without a value."""
        if self.sent is None:
            return None
        return Instant(self.sent.mono + self.limit_s, self.sent.wall + self.limit_s)

    def true_until(self, status: FreshnessStatus) -> float | None:
        """Monotonic time at which age alone makes `status` untrue; None if that never happens."""
        if self.sent is None or status.expired:
            return None
        if not status.stale:
            return self.sent.mono + self.limit_s
        return None if self._spec.max_stale_s is None else self.sent.mono + self._spec.max_stale_s

    def true_for(self, status: FreshnessStatus, now: Instant) -> float | None:
        """For how many seconds from `now` the `status` stays true if nothing but time passes; None if forever."""
        until = self.true_until(status)
        return None if until is None else until - now.mono

    def load_saved(self, value: Value, *, as_of: float, now: Instant) -> None:
        """Hold a value that was read from disk. `as_of` is in Unix seconds, and not in the future."""
        self.items = by_key(value)
        self.sent = Instant(now.mono - (now.wall - as_of), as_of)

    def answered(self, request: int, sent: Instant, items: Items) -> None:
        """`request`, which was sent at `sent`, brought a good answer, newer than what is held."""
        self.items = items
        self.request = request
        self.sent = sent
        self.limit_s = self.max_age_s
        self.end_attempt(request, None)

    def end_attempt(self, request: int, failure: ErrorCode | None) -> None:
        """`request` has ended, with `failure` if that is not None. Only the newest request counts."""
        if request > self.attempt:
            self.attempt = request
            self.failure = failure

    def _as_of(self, now: Instant) -> float | None:
        """When the request was sent, by the present wall clock. Never in the future, even if the clock was set back."""
        if self.sent is None:
            return None
        self.sent = self.sent.seen_at(now)
        return min(self.sent.wall, now.wall)

    def _why_stale(self, now: Instant, breaker: BreakerView) -> ErrorCode | None:
        if not breaker.is_closed:
            return ErrorCode.CIRCUIT_BREAKER_OPEN
        held_until = breaker.held_until
        if self.failure is not None:
            return self.failure
        if self.sent is None:
            if self.unasked is ErrorCode.RELOADED:
                return self.unasked
            return ErrorCode.RPC_HTTP_STATUS if held_until is not None and now.mono < held_until.mono else None
        if not self.request:
            return self.unasked
        overdue_at = self.sent.mono + self.limit_s
        if now.mono < overdue_at:
            return None
        # Data that grew too old during a hold keeps this reason until it is asked again: one outage, one reason.
        return ErrorCode.RPC_HTTP_STATUS if held_until and held_until.mono > overdue_at else ErrorCode.OVERDUE

    def _is_too_old(self, now: Instant) -> bool:
        max_stale_s = self._spec.max_stale_s
        return self.sent is not None and max_stale_s is not None and now.mono >= self.sent.mono + max_stale_s
