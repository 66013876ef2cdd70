"""Whether one source's last good value is fresh, and what to publish about it.

The verdict is derived from the breaker, the last attempt and the value's age each time it is needed. Only what
subscribers hold is stored, so that every change is published exactly once. A failed call never changes the value.

What was *told* is what subscribers hold now: the bus has published it (`taken`). What was *said* is what they will hold
once everything on its way to the bus is published. Each decision is made against what was said, and whatever publishes
an item makes good all that was said wrongly or not at all. So after a decision either nothing was said, or subscribers
will hold exactly what is held here. If the bus refuses something, it was never said. In a new epoch no verdict was told
(`forget_told`). In both cases `publish_owed` decides again.

For each call the caller first records the outcome in the breaker, then tells it here with the resulting view, and only
then calls `publish_changes` of the other sources of that breaker. Ages are monotonic. `as_of` is wall time and only
shown: if the wall clock is set, it moves too, even backwards, but the data never goes back to an older value.
"""

from typing import Self

import msgspec

from tidegate.core.events import Draft
from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.carried import CarriedFreshness, told_from
from tidegate.core.polling.drafts import NULL, freshness_draft, restated, value_draft
from tidegate.core.polling.held_source import HeldSource
from tidegate.core.polling.held_value import HeldValue
from tidegate.core.polling.leaving import Leaving
from tidegate.core.polling.source_values import (
    NOTHING_TOLD,
    FreshnessStatus,
    Items,
    Keys,
    SourceSpec,
    Told,
    Update,
    Value,
    by_key,
)
from tidegate.core.shaping import settled
from tidegate.errors import ErrorCode


class Freshness:
    """The truth about one source. The caller numbers the requests, from 1, in the order in which they are sent."""

    def __init__(
        self,
        spec: SourceSpec,
        *,
        held: HeldValue | None = None,
        is_known: bool = False,
        said: Told = NOTHING_TOLD,
        told: Told = NOTHING_TOLD,
    ) -> None:
        self._spec = spec
        self._about = frozenset({spec.type})
        self._held = held or HeldValue(spec)
        self._is_known = is_known  # whether there was an outcome, a tick without a call, or a value from before
        self._said = said  # what subscribers will hold once everything on its way to the bus is published
        self._told = told  # what they hold now

    @classmethod
    def from_carried(cls, spec: SourceSpec, carried: CarriedFreshness, *, now: Instant) -> Self:
        """Go on where `carried` left off. Call `publish_owed`: what was on its way to the bus counts as not said."""
        held = HeldValue.from_carried(spec, carried, now=now)
        told = told_from(carried.told, held.items)
        return cls(spec, held=held, is_known=carried.is_known, said=told, told=told)

    def carried(self, now: Instant) -> CarriedFreshness:
        """The whole state at `now`. What is on its way to the bus counts as not said."""
        return self._held.carried(now, is_known=self._is_known, told=self._told)

    @classmethod
    def adopting(cls, spec: SourceSpec, held: HeldSource) -> Self:
        """Make one for a source that was polled at another backend. Call `publish_owed` next."""
        value = HeldValue.handing_on(spec, held.items, held.sent)
        return cls(spec, held=value, is_known=held.is_known, said=held.told, told=held.told)

    def released(self) -> HeldSource:
        """What another backend needs to adopt the source."""
        told, said = self._told, self._said
        may_hold = Told(None, {**told.items, **said.items}, told.may_be_held or said.may_be_held)
        return HeldSource(items=self.items, sent=self._held.sent, told=may_hold, is_known=self._is_known)

    def followed_by(self, spec: SourceSpec) -> Self:
        """Return one for another value of the same type, which this value is handed on to. Call `publish_changes`."""
        held = HeldValue.handing_on(spec, self.items, self._held.sent)
        return type(self)(spec, held=held, is_known=self._is_known, said=self._said, told=self._told)

    def leaving(self, now: Instant, breaker: BreakerView) -> Leaving:
        """The source is polled no longer. Return what has to be said of that."""
        return Leaving(self._spec, self.status(now, breaker), about=self._about, said=self._said, told=self._told)

    def follow(self, spec: SourceSpec, interval_s: float) -> None:
        """Judge and tell by another `spec` from now on, and ask every `interval_s`. Call `publish_changes` next."""
        self._spec = spec
        self._held.follow(spec, interval_s)

    @property
    def items(self) -> Items:
        """The last good value, also where it is stale or expired."""
        return self._held.items

    @property
    def failure(self) -> ErrorCode | None:
        """The error that the newest request ended with, if any."""
        return self._held.failure

    @property
    def sent_at(self) -> float:
        """Monotonic time at which the value was asked for; `LONG_AGO` if there is none."""
        return LONG_AGO if self._held.sent is None else self._held.sent.mono

    @property
    def fresh_until(self) -> Instant | None:
        """When age alone makes the value stale; None without a value."""
        return self._held.fresh_until

    @property
    def max_age_s(self) -> float:
        """The age at which a value is stale without a failed call, at the current interval."""
        return self._held.max_age_s

    def set_interval(self, interval_s: float) -> None:
        """Ask every `interval_s` from now on. A value asked for at a longer interval keeps its longer age limit."""
        self._held.set_interval(interval_s)

    def status(self, now: Instant, breaker: BreakerView) -> FreshnessStatus:
        """Return what is true now, whether or not it was published."""
        return self._held.status(now, breaker)

    @property
    def has_said_items(self) -> bool:
        """Whether the newest answer was said: its data, and when it was asked for."""
        return self._said.items is self._held.items

    def load_saved(self, value: Value, *, as_of: float, now: Instant, breaker: BreakerView) -> Update:
        """Take a value that was read from disk. It is stale until the backend answers, and dropped if it has answered.

        An `as_of` (Unix seconds) in the future means that the clock was wrong when the value was saved: `now` is used.
        """
        if self._held.sent is not None:
            return self.publish_changes(now, breaker)
        self._held.load_saved(value, as_of=min(as_of, now.wall), now=now)
        return self._say(self._held.status(now, breaker), self._held.items, now)

    def answered(
        self,
        request: int,
        *,
        sent: Instant,
        value: Value,
        now: Instant,
        breaker: BreakerView,
        ignore: tuple[str, ...] = (),
    ) -> Update:
        """`request`, which was sent at `sent`, brought a good answer. An answer older than the held one is dropped.

        What differs from what is held only at the pointers `ignore` stays as it is held, unless everything is published
        anyway, because the verdict changed: then clients get all that is new.
        """
        if request <= self._held.request:
            return self.publish_changes(now, breaker)
        held, items = self._held.items, by_key(value)
        self._held.answered(request, sent, items)
        status = self._held.status(now, breaker)
        if not self._verdict_changed(status):
            self._held.items = settled(items, held, ignore)
        return self._say(status, self._keys_of_news(status), now)

    def failed(
        self, request: int, *, code: ErrorCode, now: Instant, breaker: BreakerView, at_tick: bool = True
    ) -> Update:
        """`request` brought no usable answer. `code` is why the data is stale, unless the breaker is not closed now.

        If it was not made `at_tick`, only a change is published: of the verdict, or of the reason if there is one item.
        """
        if request <= self._held.attempt:
            return self.publish_changes(now, breaker)
        self._held.end_attempt(request, code)
        status = self._held.status(now, breaker)
        if at_tick:
            return self._say_at_tick(status, now)
        said = self._said.status
        is_news = not self._spec.keyed and said is not None and said.reason != status.reason
        return self._say(status, self._held.items, now) if is_news or self._verdict_changed(status) else Update()

    def not_asked(self, now: Instant, breaker: BreakerView) -> Update:
        """The source was due but not asked. Repeats what is stale.

        The breaker refused, the source backs off, or its last call is still under way.
        """
        return self._say_at_tick(self._held.status(now, breaker), now)

    def publish_changes(self, now: Instant, breaker: BreakerView) -> Update:
        """The breaker moved, or time passed. Publish if staleness, expiry or the outage has changed, and only then.

        Before the first outcome nothing is known, so nothing is published.
        """
        if not self._is_known:
            return Update()
        status = self._held.status(now, breaker)
        return self._say(status, self._held.items, now) if self._verdict_changed(status) else Update()

    def taken(self, told: Told) -> None:
        """The bus has published an update that says `told`. Updates are taken in the order in which they were made.

        Of an update from before `forget_told`, only the items count: it was published in the new epoch, or just before.
        """
        self._told = told

    def refused(self) -> None:
        """The bus refused every update that was on its way. Call `publish_owed` later."""
        self._said = self._told

    def forget_told(self) -> None:
        """Another epoch has begun, in which no verdict was told. Call `publish_owed` then.

        What is on its way to the bus may be published in it all the same, so its items may have to be removed.
        """
        self._said = self._said.in_another_epoch()
        self._told = NOTHING_TOLD

    def publish_owed(self, now: Instant, breaker: BreakerView) -> Update:
        """After `refused`, `from_carried` or `forget_told`: publish where the truth differs from what was told."""
        if not self._is_known and not self._said.may_be_held:  # it may be, of a source that left and is back
            return Update()
        status = self._held.status(now, breaker)
        is_lost = not self.has_said_items
        if self._verdict_changed(status) or (is_lost and not self._spec.on_change and not self._spec.keyed):
            return self._say(status, self._held.items, now)
        return self._say(status, self._changed_keys(), now) if is_lost else Update()

    @property
    def untrue_at(self) -> float | None:
        """Monotonic time at which age alone makes what was said last untrue; None if that never happens."""
        return None if self._said.status is None else self._held.true_until(self._said.status)

    def corrected_for_age(self, draft: Draft, now: Instant, breaker: BreakerView) -> Draft:
        """Return what a retained `draft` of this source, whose `fresh_s` has passed, has to say at `now`.

        That is itself, unless age has made it untrue. `publish_changes` decides the change soon, and the bus publishes
        it, perhaps much later. A snapshot may be asked for before that.
        """
        status = self._held.status(now, breaker)
        return restated(draft, status, self._spec, self._about, fresh_s=self._held.true_for(status, now))

    def _verdict_changed(self, status: FreshnessStatus) -> bool:
        """Whether every item has to be published, because `status` is another verdict than what was said last."""
        said = self._said.status
        return said is None or status.verdict_changed_since(said)

    def _keys_of_news(self, status: FreshnessStatus) -> Keys:
        """The keys that a good answer publishes: all if the verdict on the data changed, else those it changed."""
        spec = self._spec
        repeats = not spec.on_change or (status.stale and spec.stale_repeat)
        if self._verdict_changed(status) or (repeats and not spec.keyed):
            return self._held.items
        return self._changed_keys()

    def _changed_keys(self) -> Keys:
        """The keys of items that are new, or whose data differs from what was said last."""
        before = self._said.items
        return [key for key, data in self._held.items.items() if before.get(key) != data]

    def _say_at_tick(self, status: FreshnessStatus, now: Instant) -> Update:
        """A due tick brought no answer. With `stale_repeat`, publish a stale value again, but no long list."""
        again = status.stale and self._spec.stale_repeat and not self._spec.keyed
        return self._say(status, self._held.items, now) if again or self._verdict_changed(status) else Update()

    def _say(self, status: FreshnessStatus, keys: Keys, now: Instant) -> Update:
        """Publish the items of `keys` with `status`, and the removal of those that are gone. From now on, that is said.

        `keys` must have every item that differs from what was said, and all of them if the verdict did. The others only
        get the new `as_of`. `source.freshness` is published too if what it says has changed. The only place where
        `_said` moves forward.
        """
        said, items = self._said.status, self._held.items
        gone = [key for key in self._said.items if key not in items]
        if said is not None and said.stale and status.stale and said.reason != status.reason:
            if keys or gone:
                keys = items  # all items of a source show the same reason
            elif not self._verdict_changed(status):
                # No event tells the new reason, so what is said keeps the old one: the events and this agree.
                status = msgspec.structs.replace(status, error_code=said.error_code, cause=said.cause)
        drafts = [self._draft(status, key, items[key], now) for key in keys]
        drafts += [self._draft(status, key, NULL, now, gone=True) for key in gone]
        if said is None or said.in_freshness_event != status.in_freshness_event:
            fresh_s = self._held.true_for(status, now)
            drafts.append(freshness_draft(self._spec.type, self._about, status, fresh_s=fresh_s))
        self._is_known = True
        self._said = Told(status, items)
        as_of = status.as_of if len(keys) < len(items) else None
        return Update(drafts, as_of=as_of, told=self._said if drafts else None)

    def _draft(
        self, status: FreshnessStatus, key: str | None, data: msgspec.Raw, now: Instant, *, gone: bool = False
    ) -> Draft:
        return value_draft(self._spec, status, key, data, gone=gone, fresh_s=self._held.true_for(status, now))
