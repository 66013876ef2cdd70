"""One source's last good value, whether it is fresh, and what to publish about it.

Staleness is derived from the breaker, the last attempt and the value's age each time it is asked for; what is kept
is only what was said last, so that every change is published exactly once. A failure never touches the value.

Two things are held apart: what the bus took over (`taken`) and what was said last, which may still be under way. Each
decision is made against what was said last. What the bus refused was never said: `restate` decides it anew.

For each call the caller records the outcome in the breaker first, then tells it here with the resulting view, and only
then has the other sources of that breaker reviewed. Ages are monotonic; `as_of` is wall time and only shown: it follows
a wall clock that is set, back too, while the data never goes back.
"""

from collections.abc import Collection, Mapping
from typing import Self

import msgspec

from tidegate.core.breaker import BreakerView
from tidegate.core.built_in import SourceFreshness
from tidegate.core.events import Draft
from tidegate.core.instant import Instant, rfc3339
from tidegate.errors import ErrorCode

_FRESHNESS_TYPE = "source.freshness"
_NULL = msgspec.Raw(b"null")

Value = msgspec.Raw | Mapping[str, msgspec.Raw]
"""A source's value, compact JSON: whole, or of a keyed source its items by their key."""

Items = Mapping[str | None, msgspec.Raw]
"""A value as it is held: one item under None where the type has no keys."""


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a source's configuration says of its data. `type` is the event type, `source` the backend's name.

    Durations are in seconds. A stale value older than `max_stale_s` is no longer handed out. `on_change` leaves out
    good answers that change nothing; `stale_repeat` publishes a stale event again at each due tick. A `keyed` source's
    value is a mapping, of which only new, changed and vanished items are published.
    """

    type: str
    source: str
    interval_s: float
    timeout_s: float
    max_stale_s: float | None = None
    on_change: bool = False
    stale_repeat: bool = True
    keyed: bool = False


class FreshnessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a source's data. `error_code` says why it is stale; None also before the first outcome.

    `as_of` and `retry_at` are in Unix seconds. `as_of` is when the request was sent whose answer is held, None before
    the first answer. `retry_at` is when the backend is asked again, while its breaker or a hold keeps it from being
    asked; `cause` is the breaker's, while it is not closed. `expired`: too old to hand out.
    """

    stale: bool
    error_code: ErrorCode | None
    as_of: float | None
    retry_at: float | None
    cause: ErrorCode | None
    expired: bool


class Told(msgspec.Struct, frozen=True, gc=False):
    """What the events of a source say: the verdict on its data, the data, and which request brought that."""

    status: FreshnessStatus
    items: Items
    request: int


class Update(msgspec.Struct):
    """What to publish, in this order.

    `as_of`, in Unix seconds, is set where a good answer left retained events as they are: it is theirs from now on.
    `told` is for `Freshness.taken`, once the drafts are published; None without any.
    """

    drafts: list[Draft] = []
    as_of: float | None = None
    told: Told | None = None


class CarriedFreshness(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state of a `Freshness`, as JSON can carry it: times are Unix seconds, an item without a key is "".

    `told` was taken over by the bus; its `items` are None where they are those that are held.
    """

    interval_s: float
    limit_s: float
    items: dict[str, msgspec.Raw]
    sent_at: float | None
    held_request: int
    attempt: int
    failure: ErrorCode | None
    is_known: bool
    told: "CarriedTold | None"


class CarriedTold(msgspec.Struct, frozen=True):
    """A `Told`, as JSON can carry it."""

    status: FreshnessStatus
    items: dict[str, msgspec.Raw] | None
    request: int


class Freshness:
    """The truth about one source. Requests are numbered by the caller, from 1, in the order they were sent."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._about = frozenset({spec.type})
        self._interval_s = spec.interval_s
        self._limit_s = self.max_age_s
        self._items: Items = {}
        self._sent: Instant | None = None  # the request whose answer is held; of a restored value, its as_of
        self._held_request = 0  # 0 also for a restored value
        self._attempt = 0  # the newest request whose end is known
        self._failure: ErrorCode | None = None  # how that ended
        self._is_known = False  # whether there is anything to say: an outcome, a refused tick, a restored value
        self._said: Told | None = None  # what was decided last: the newest that is published, or under way
        self._told: Told | None = None  # what the bus took over last

    @classmethod
    def resumed(cls, spec: SourceSpec, carried: CarriedFreshness, *, now: Instant) -> Self:
        """Go on where `carried` left off. What was under way then is decided anew: call `restate`."""
        resumed = cls(spec)
        resumed._interval_s = carried.interval_s
        resumed._limit_s = carried.limit_s
        resumed._items = _as_held(carried.items)
        resumed._sent = None if carried.sent_at is None else now.when(carried.sent_at)
        resumed._held_request = carried.held_request
        resumed._attempt = carried.attempt
        resumed._failure = carried.failure
        resumed._is_known = carried.is_known
        if (told := carried.told) is not None:
            items = resumed._items if told.items is None else _as_held(told.items)
            resumed._said = resumed._told = Told(told.status, items, told.request)
        return resumed

    def carried(self, now: Instant) -> CarriedFreshness:
        """The whole state at `now`. What is under way counts as not said."""
        return CarriedFreshness(
            interval_s=self._interval_s,
            limit_s=self._limit_s,
            items=_as_carried(self._items),
            sent_at=None if self._sent is None else self._sent.seen_at(now).wall,
            held_request=self._held_request,
            attempt=self._attempt,
            failure=self._failure,
            is_known=self._is_known,
            told=None if self._told is None else self._carried_told(self._told),
        )

    @property
    def items(self) -> Items:
        """The last good value, also where it is stale or expired."""
        return self._items

    def restored(self, value: Value, *, as_of: float, now: Instant, breaker: BreakerView) -> Update:
        """A value read back from disk: stale until the backend answers. Dropped if it has answered before.

        An `as_of` (Unix seconds) in the future tells that the clock was wrong when it was saved: then it is `now`.
        """
        if self._sent is not None:
            return self.review(now, breaker)
        self._items = _by_key(value)
        as_of = min(as_of, now.wall)
        self._sent = Instant(now.mono - (now.wall - as_of), as_of)
        return self._tell(self.status(now, breaker), self._items, now=now)

    def answered(self, request: int, *, sent: Instant, value: Value, now: Instant, breaker: BreakerView) -> Update:
        """A good answer to `request`, which was sent at `sent`. One older than what is held is dropped."""
        if request <= self._held_request:
            return self.review(now, breaker)
        self._hold(request, sent, value)
        self._end_attempt(request, None)
        status = self.status(now, breaker)
        return self._tell_news(status, self._news(status), now)

    def failed(self, request: int, *, code: ErrorCode, now: Instant, breaker: BreakerView) -> Update:
        """`request` brought no usable answer: `code` is why the data is stale, unless the breaker isn't closed now."""
        if request <= self._attempt:
            return self.review(now, breaker)
        self._end_attempt(request, code)
        return self._tick(self.status(now, breaker), now)

    def repeat(self, now: Instant, breaker: BreakerView) -> Update:
        """A due tick on which nothing was asked: the breaker refused, or the source backs off."""
        return self._tick(self.status(now, breaker), now)

    def review(self, now: Instant, breaker: BreakerView) -> Update:
        """The breaker moved, or time passed: publishes exactly where staleness, expiry or the outage changed.

        Nothing before the first outcome, which alone makes the unknown known.
        """
        if not self._is_known:
            return Update()
        status = self.status(now, breaker)
        return self._tell(status, self._items if self._moved(status) else (), now=now)

    def taken(self, told: Told) -> None:
        """The bus took over an update that says `told`: updates are taken in the order in which they were made."""
        self._told = told

    def refused(self) -> None:
        """The bus took over none of the updates that are under way: what was told stands. Call `restate` later."""
        self._said = self._told

    def restate(self, now: Instant, breaker: BreakerView) -> Update:
        """What is still to be said after `refused` or `resumed`: all in which the truth differs from what was told."""
        if not self._is_known:
            return Update()
        status = self.status(now, breaker)
        told = self._said
        is_lost = told is not None and told.request != self._held_request
        every_answer = not self._spec.on_change and not self._spec.keyed
        if self._moved(status) or (is_lost and every_answer):
            return self._tell_news(status, self._items, now)
        return self._tell_news(status, self._changed(), now) if is_lost else Update()

    @property
    def due_review_at(self) -> float | None:
        """Monotonic time at which age alone makes what was said last untrue; None if it never does."""
        return None if self._said is None else self._true_until(self._said.status)

    def restated(self, draft: Draft, now: Instant, breaker: BreakerView) -> Draft:
        """What a retained `draft` of this source has to say at `now`: itself, unless age has made it untrue since.

        That is published as soon as somebody calls `review`; a process that was held up may be asked before that.
        """
        if self.due_review_at is None or now.mono < self.due_review_at:
            return draft
        status = self.status(now, breaker)
        if draft.type == _FRESHNESS_TYPE:
            return self._freshness_draft(status, now)
        return self._draft(status, draft.key, self._items.get(draft.key, draft.data), now)

    @property
    def max_age_s(self) -> float:
        """The age at which a value that is asked for every interval, as it is now, is stale without a failed call."""
        return max(2 * self._interval_s, self._interval_s + self._spec.timeout_s)

    def set_interval(self, interval_s: float) -> None:
        """Ask every `interval_s` from now on. What was asked for at a slower pace keeps its longer age limit."""
        self._interval_s = interval_s
        self._limit_s = max(self._limit_s, self.max_age_s)

    def status(self, now: Instant, breaker: BreakerView) -> FreshnessStatus:
        """What is true now, whether or not it was published."""
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

    def _carried_told(self, told: Told) -> CarriedTold:
        items = None if told.items is self._items else _as_carried(told.items)
        return CarriedTold(told.status, items, told.request)

    def _hold(self, request: int, sent: Instant, value: Value) -> None:
        self._items = _by_key(value)
        self._held_request = request
        self._sent = sent
        self._limit_s = self.max_age_s

    def _as_of(self, now: Instant) -> float | None:
        """When the request was sent, as the wall clock tells it now: never later than now, whatever became of that."""
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
        """For how many seconds from `now` age alone leaves `status` true; None if for ever."""
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
        # What a hold made too old keeps this reason until it is asked again: one outage, one reason.
        return ErrorCode.RPC_HTTP_STATUS if held_until and held_until.mono > overdue_at else ErrorCode.OVERDUE

    def _is_too_old(self, now: Instant) -> bool:
        max_stale_s = self._spec.max_stale_s
        return self._sent is not None and max_stale_s is not None and now.mono >= self._sent.mono + max_stale_s

    def _moved(self, status: FreshnessStatus) -> bool:
        """Whether all items have to be published: their verdict changed, or the outage behind which they are stale.

        Everything that is stale behind a breaker which isn't closed says so, for the same cause; and what was polled no
        longer says that it was not. Otherwise another reason is only told where the data is published anyway.
        """
        if self._said is None:
            return True
        told = self._said.status
        if (told.stale, told.expired) != (status.stale, status.expired):
            return True
        tells_why = status.error_code is ErrorCode.CIRCUIT_BREAKER_OPEN or told.error_code is ErrorCode.RESTORED
        return tells_why and _reason(told) != _reason(status)

    def _news(self, status: FreshnessStatus) -> Collection[str | None]:
        """The keys that a good answer publishes: all where the verdict on the data moved, else what it changed."""
        spec = self._spec
        repeats = not spec.on_change or (status.stale and spec.stale_repeat)
        if self._moved(status) or (repeats and not spec.keyed):
            return self._items
        return self._changed()

    def _changed(self) -> Collection[str | None]:
        """The keys of new items and of those whose data is not what was said last."""
        before = {} if self._said is None else self._said.items
        return [key for key, data in self._items.items() if before.get(key) != data]

    def _tick(self, status: FreshnessStatus, now: Instant) -> Update:
        """A due tick without an answer: what is stale is published again, unless there are many or none is wanted."""
        again = status.stale and self._spec.stale_repeat and not self._spec.keyed
        return self._tell(status, self._items if again or self._moved(status) else (), now=now)

    def _tell_news(self, status: FreshnessStatus, news: Collection[str | None], now: Instant) -> Update:
        """Publish the items of `news` and which are gone; the others that are held are as of now, too."""
        before: Collection[str | None] = () if self._said is None else self._said.items
        update = self._tell(status, news, [key for key in before if key not in self._items], now=now)
        if len(news) < len(self._items):
            update.as_of = status.as_of
        return update

    def _tell(
        self, status: FreshnessStatus, keys: Collection[str | None], gone: Collection[str | None] = (), *, now: Instant
    ) -> Update:
        said = None if self._said is None else self._said.status
        if said is not None and said.stale and status.stale and _reason(said) != _reason(status):
            if keys or gone:
                keys = self._items  # one reason for all of them
            elif not self._moved(status):
                status = msgspec.structs.replace(status, error_code=said.error_code, cause=said.cause)
        drafts = [self._draft(status, key, self._items[key], now) for key in keys]
        drafts += [self._draft(status, key, _NULL, now, gone=True) for key in gone]
        if said is None or _known(said) != _known(status):
            drafts.append(self._freshness_draft(status, now))
        self._is_known = True
        self._said = Told(status, self._items, self._held_request)
        return Update(drafts, told=self._said if drafts else None)

    def _draft(
        self, status: FreshnessStatus, key: str | None, data: msgspec.Raw, now: Instant, *, gone: bool = False
    ) -> Draft:
        return Draft(
            type=self._spec.type,
            data=_NULL if status.expired else data,
            key=key,
            retain=True,
            gone=gone,
            source=self._spec.source,
            stale=status.stale,
            as_of=status.as_of,
            error_code=status.error_code,
            retry_at=status.retry_at,
            cause=status.cause,
            expired=status.expired and not gone,
            fresh_s=None if gone else self._true_for(status, now),
        )

    def _freshness_draft(self, status: FreshnessStatus, now: Instant) -> Draft:
        data = SourceFreshness(
            type=self._spec.type,
            stale=status.stale,
            error_code=status.error_code,
            as_of=None if status.as_of is None else rfc3339(status.as_of),
        )
        return Draft(
            type=_FRESHNESS_TYPE,
            data=msgspec.Raw(msgspec.json.encode(data)),
            key=self._spec.type,
            retain=True,
            about=self._about,
            fresh_s=self._true_for(status, now),
        )


def _known(status: FreshnessStatus) -> tuple[bool, bool, ErrorCode | None]:
    """What `source.freshness` is about: whether the data is stale, whether there is any, and what its events say."""
    return status.stale, status.as_of is None, status.error_code


def _reason(status: FreshnessStatus) -> tuple[ErrorCode | None, ErrorCode | None]:
    return status.error_code, status.cause


def _by_key(value: Value) -> Items:
    if isinstance(value, msgspec.Raw):
        return {None: value}
    return dict(value.items())


def _as_carried(items: Items) -> dict[str, msgspec.Raw]:
    return {key or "": data for key, data in items.items()}


def _as_held(items: Mapping[str, msgspec.Raw]) -> Items:
    return {key or None: data for key, data in items.items()}
