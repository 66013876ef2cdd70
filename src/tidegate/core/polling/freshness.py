"""Whether one source's last good value is fresh, and what to publish about it.

The verdict is derived from the breaker, the last attempt and the value's age each time it is needed. Only what was said
last is stored, so that every change is published exactly once. A failed call never changes the value.

What was *said* last and what was *told* are two things. Said is the newest decision: its events are published, or on
their way to the bus. Told is what the bus has published (`taken`). Each decision is made against what was said. If the
bus refuses something, it was never said. In a new epoch nothing was told (`forget_told`). In both cases `publish_owed`
decides again.

For each call the caller first records the outcome in the breaker, then tells it here with the resulting view, and only
then calls `publish_changes` of the other sources of that breaker. Ages are monotonic. `as_of` is wall time and only
shown: if the wall clock is set, it moves too, even backwards, but the data never goes back to an older value.
"""

from typing import Self

import msgspec

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.carried import CarriedFreshness, carried_items, carried_told, items_from, told_from
from tidegate.core.polling.drafts import FRESHNESS_TYPE, freshness_draft, value_draft
from tidegate.core.polling.source_values import FreshnessStatus, Items, Keys, SourceSpec, Told, Update, Value, by_key
from tidegate.errors import ErrorCode

_NULL = msgspec.Raw(b"null")


class Freshness:
    """The truth about one source. The caller numbers the requests, from 1, in the order in which they are sent."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._about = frozenset({spec.type})
        self._interval_s = spec.interval_s
        self._limit_s = self.max_age_s
        self._items: Items = {}
        self._sent: Instant | None = None  # when what is held was asked for; of a restored value, its as_of
        self._held_request = 0  # 0 also for a restored value
        self._attempt = 0  # the newest request that has ended
        self._failure: ErrorCode | None = None  # the error that it ended with, if any
        self._is_known = False  # whether there was an outcome, a tick without a call, or a restored value
        self._said: Told | None = None  # the newest decision: published, or on its way to the bus
        self._told: Told | None = None  # the newest that the bus has published

    @classmethod
    def from_carried(cls, spec: SourceSpec, carried: CarriedFreshness, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off.

        Call `publish_owed` next: what was on its way to the bus then counts as not said.
        """
        resumed = cls(spec)
        resumed._interval_s = carried.interval_s
        resumed._limit_s = carried.limit_s
        resumed._items = items_from(carried.items)
        resumed._sent = None if carried.sent_at is None else now.when(carried.sent_at)
        resumed._held_request = carried.held_request
        resumed._attempt = carried.attempt
        resumed._failure = carried.failure
        resumed._is_known = carried.is_known
        if carried.told is not None:
            resumed._said = resumed._told = told_from(carried.told, resumed._items)
        return resumed

    def carried(self, now: Instant) -> CarriedFreshness:
        """The whole state at `now`. What is on its way to the bus counts as not said."""
        return CarriedFreshness(
            interval_s=self._interval_s,
            limit_s=self._limit_s,
            items=carried_items(self._items),
            sent_at=None if self._sent is None else self._sent.seen_at(now).wall,
            held_request=self._held_request,
            attempt=self._attempt,
            failure=self._failure,
            is_known=self._is_known,
            told=None if self._told is None else carried_told(self._told, self._items),
        )

    @property
    def items(self) -> Items:
        """The last good value, also where it is stale or expired."""
        return self._items

    def load_saved(self, value: Value, *, as_of: float, now: Instant, breaker: BreakerView) -> Update:
        """Take a value that was read from disk. It is stale until the backend answers, and dropped if it has answered.

        An `as_of` (Unix seconds) in the future means that the clock was wrong when the value was saved: `now` is used.
        """
        if self._sent is not None:
            return self.publish_changes(now, breaker)
        self._items = by_key(value)
        as_of = min(as_of, now.wall)
        self._sent = Instant(now.mono - (now.wall - as_of), as_of)
        return self._say(self.status(now, breaker), self._items, now=now)

    def answered(self, request: int, *, sent: Instant, value: Value, now: Instant, breaker: BreakerView) -> Update:
        """`request`, which was sent at `sent`, brought a good answer. An answer older than the held one is dropped."""
        if request <= self._held_request:
            return self.publish_changes(now, breaker)
        self._hold(request, sent, value)
        self._end_attempt(request, None)
        status = self.status(now, breaker)
        return self._say_news(status, self._keys_of_news(status), now)

    def failed(self, request: int, *, code: ErrorCode, now: Instant, breaker: BreakerView) -> Update:
        """`request` brought no usable answer. `code` is why the data is stale, unless the breaker is not closed now."""
        if request <= self._attempt:
            return self.publish_changes(now, breaker)
        self._end_attempt(request, code)
        return self._say_at_tick(self.status(now, breaker), now)

    def not_asked(self, now: Instant, breaker: BreakerView) -> Update:
        """The source was due but not asked: the breaker refused, or the source backs off. Repeats what is stale."""
        return self._say_at_tick(self.status(now, breaker), now)

    def publish_changes(self, now: Instant, breaker: BreakerView) -> Update:
        """The breaker moved, or time passed. Publish if staleness, expiry or the outage has changed, and only then.

        Before the first outcome nothing is known, so nothing is published.
        """
        if not self._is_known:
            return Update()
        status = self.status(now, breaker)
        return self._say(status, self._items if self._verdict_changed(status) else (), now=now)

    def taken(self, told: Told) -> None:
        """The bus has published an update that says `told`. Updates are taken in the order in which they were made."""
        self._told = told

    def refused(self) -> None:
        """The bus refused every update that was on its way. Call `publish_owed` later."""
        self._said = self._told

    def forget_told(self) -> None:
        """Another epoch has begun, in which nothing was told. Call `publish_owed` then."""
        self._said = self._told = None

    def publish_owed(self, now: Instant, breaker: BreakerView) -> Update:
        """After `refused`, `from_carried` or `forget_told`: publish where the truth differs from what was told."""
        if not self._is_known:
            return Update()
        status = self.status(now, breaker)
        told = self._said
        is_lost = told is not None and told.request != self._held_request
        every_answer = not self._spec.on_change and not self._spec.keyed
        if self._verdict_changed(status) or (is_lost and every_answer):
            return self._say_news(status, self._items, now)
        return self._say_news(status, self._changed_keys(), now) if is_lost else Update()

    @property
    def untrue_at(self) -> float | None:
        """Monotonic time at which age alone makes what was said last untrue; None if that never happens."""
        return None if self._said is None else self._true_until(self._said.status)

    def corrected_for_age(self, draft: Draft, now: Instant, breaker: BreakerView) -> Draft:
        """Return what a retained `draft` of this source has to say at `now`: itself, unless age has made it untrue.

        `publish_changes` publishes the change soon. A snapshot may be asked for before that, if the process is late.
        """
        if self.untrue_at is None or now.mono < self.untrue_at:
            return draft
        status = self.status(now, breaker)
        if draft.type == FRESHNESS_TYPE:
            return self._freshness_draft(status, now)
        return self._draft(status, draft.key, self._items.get(draft.key, draft.data), now)

    @property
    def max_age_s(self) -> float:
        """The age at which a value is stale without a failed call, at the current interval."""
        return max(2 * self._interval_s, self._interval_s + self._spec.timeout_s)

    def set_interval(self, interval_s: float) -> None:
        """Ask every `interval_s` from now on. A value asked for at a longer interval keeps its longer age limit."""
        self._interval_s = interval_s
        self._limit_s = max(self._limit_s, self.max_age_s)

    def status(self, now: Instant, breaker: BreakerView) -> FreshnessStatus:
        """Return what is true now, whether or not it was published."""
        code = self._why_stale(now, breaker)
        stale = code is not None or self._sent is None
        return FreshnessStatus(
            stale=stale,
            error_code=code,
            as_of=self._as_of(now),
            retry_at=breaker.next_try_at(now) if stale else None,
            cause=breaker.cause,
            expired=stale and self._is_too_old(now),
        )

    def _hold(self, request: int, sent: Instant, value: Value) -> None:
        self._items = by_key(value)
        self._held_request = request
        self._sent = sent
        self._limit_s = self.max_age_s

    def _as_of(self, now: Instant) -> float | None:
        """When the request was sent, by the present wall clock. Never in the future, even if the clock was set back."""
        if self._sent is None:
            return None
        self._sent = self._sent.seen_at(now)
        return min(self._sent.wall, now.wall)

    def _end_attempt(self, request: int, failure: ErrorCode | None) -> None:
        if request > self._attempt:
            self._attempt = request
            self._failure = failure

    def _true_until(self, status: FreshnessStatus) -> float | None:
        if self._sent is None or status.expired:
            return None
        if not status.stale:
            return self._sent.mono + self._limit_s
        return None if self._spec.max_stale_s is None else self._sent.mono + self._spec.max_stale_s

    def _true_for(self, status: FreshnessStatus, now: Instant) -> float | None:
        """For how many seconds from `now` the `status` stays true if nothing but time passes; None if forever."""
        until = self._true_until(status)
        return None if until is None else until - now.mono

    def _why_stale(self, now: Instant, breaker: BreakerView) -> ErrorCode | None:
        if not breaker.is_closed:
            return ErrorCode.CIRCUIT_BREAKER_OPEN
        held_until = breaker.held_until
        if self._failure is not None:
            return self._failure
        if self._sent is None:
            return ErrorCode.RPC_HTTP_STATUS if held_until is not None and now.mono < held_until.mono else None
        if not self._held_request:
            return ErrorCode.RESTORED
        overdue_at = self._sent.mono + self._limit_s
        if now.mono < overdue_at:
            return None
        # Data that grew too old during a hold keeps this reason until it is asked again: one outage, one reason.
        return ErrorCode.RPC_HTTP_STATUS if held_until and held_until.mono > overdue_at else ErrorCode.OVERDUE

    def _is_too_old(self, now: Instant) -> bool:
        max_stale_s = self._spec.max_stale_s
        return self._sent is not None and max_stale_s is not None and now.mono >= self._sent.mono + max_stale_s

    def _verdict_changed(self, status: FreshnessStatus) -> bool:
        """Whether every item has to be published, because `status` is another verdict than what was said last."""
        return self._said is None or status.verdict_changed_since(self._said.status)

    def _keys_of_news(self, status: FreshnessStatus) -> Keys:
        """The keys that a good answer publishes: all if the verdict on the data changed, else those it changed."""
        spec = self._spec
        repeats = not spec.on_change or (status.stale and spec.stale_repeat)
        if self._verdict_changed(status) or (repeats and not spec.keyed):
            return self._items
        return self._changed_keys()

    def _changed_keys(self) -> Keys:
        """The keys of items that are new, or whose data differs from what was said last."""
        before = {} if self._said is None else self._said.items
        return [key for key, data in self._items.items() if before.get(key) != data]

    def _say_at_tick(self, status: FreshnessStatus, now: Instant) -> Update:
        """A due tick brought no answer. With `stale_repeat`, publish a stale value again, but no long list."""
        again = status.stale and self._spec.stale_repeat and not self._spec.keyed
        return self._say(status, self._items if again or self._verdict_changed(status) else (), now=now)

    def _say_news(self, status: FreshnessStatus, news: Keys, now: Instant) -> Update:
        """Publish the items of `news`, and the removal of those that are gone. The others only get the new `as_of`."""
        before: Keys = () if self._said is None else self._said.items
        update = self._say(status, news, [key for key in before if key not in self._items], now=now)
        if len(news) < len(self._items):
            update.as_of = status.as_of
        return update

    def _say(self, status: FreshnessStatus, keys: Keys, gone: Keys = (), *, now: Instant) -> Update:
        """Publish the items of `keys` with `status`, and the removal of the keys in `gone`. From now on, that is said.

        `source.freshness` is published too if what it says has changed. The only place where `_said` moves forward.
        """
        said = None if self._said is None else self._said.status
        if said is not None and said.stale and status.stale and said.reason != status.reason:
            if keys or gone:
                keys = self._items  # all items of a source show the same reason
            elif not self._verdict_changed(status):
                # No event tells the new reason, so what is said keeps the old one: the events and this agree.
                status = msgspec.structs.replace(status, error_code=said.error_code, cause=said.cause)
        drafts = [self._draft(status, key, self._items[key], now) for key in keys]
        drafts += [self._draft(status, key, _NULL, now, gone=True) for key in gone]
        if said is None or said.in_freshness_event != status.in_freshness_event:
            drafts.append(self._freshness_draft(status, now))
        self._is_known = True
        self._said = Told(status, self._items, self._held_request)
        return Update(drafts, told=self._said if drafts else None)

    def _draft(
        self, status: FreshnessStatus, key: str | None, data: msgspec.Raw, now: Instant, *, gone: bool = False
    ) -> Draft:
        return value_draft(self._spec, status, key, data, gone=gone, fresh_s=self._true_for(status, now))

    def _freshness_draft(self, status: FreshnessStatus, now: Instant) -> Draft:
        return freshness_draft(self._spec.type, self._about, status, fresh_s=self._true_for(status, now))
