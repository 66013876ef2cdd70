"""What publishers (clients that send events) may publish, how much of it, and which answer they get."""

import asyncio
import itertools
import math
from collections.abc import Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from tidegate.core.access.grant import Grant
from tidegate.core.delivery.retained import Name
from tidegate.core.events import Draft, Position, gone_draft
from tidegate.core.rate import Allowances
from tidegate.core.topics import RESERVED_TYPES, PatternSet, check_event_type
from tidegate.errors import BusError, BusUnknown, ErrorCode, PublishError, TopicError, UnknownName
from tidegate.ports import Clock
from tidegate.runtime.deadline import deadline
from tidegate.runtime.event_publisher import EventPublisher
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.runtime.kept_values import KeptValues
from tidegate.runtime.pending_publish import PendingPublish

EVENT_TYPES = 1024
"""Size of the cache of well-formed event types: a publisher repeats the same few, and parsing them costs most."""

SHOWN = 10
"""How many uncovered types an error names at most, so that it stays short."""

RETRY_AFTER_S = 1
"""The `Retry-After`, in seconds, of an answer that says that the bus did not take the events."""


class Publishers:
    """All publishers of one gateway. Each is known by the name of its grant.

    They may not publish the gateway's own types. Of the `options`, `event_bytes` limits the data of one event, and
    `publishes` the events of each publisher; the quota of the values that are `kept` limits all of them together.
    `publish_timeout_s` is how long to wait for the bus.
    """

    def __init__(self, options: GatewayOptions, kept: KeptValues, *, publisher: EventPublisher, clock: Clock) -> None:
        self._options = options
        self._kept = kept
        self._publisher = publisher
        self._clock = clock
        self.refused_for: str | None = None
        """Why the bus is lost, while it is; every publish is then refused at once. None while the bus is there."""
        self._allowances = Allowances(options.publishes)
        self._numbers = itertools.count()
        self._under_way: dict[int, Sequence[Draft]] = {}
        """The drafts of each publish that the bus has not answered, and that was not given up; by number."""
        self._awaited: set[int] = set()
        """The numbers of those whose coroutine runs, which removes them itself."""
        self._removal: _Removal | None = None

    def apply(self, options: GatewayOptions) -> None:
        """Go by `options` from now on. What a publisher has sent already still counts against its rate."""
        self._options = options
        self._allowances.rate = options.publishes

    async def publish(self, drafts: Sequence[Draft], grant: Grant) -> Position:
        """Publish `drafts` as `start_publish` does, wait for the outcome, and return the last position."""
        started = self.start_publish(drafts, grant)
        return started if isinstance(started, Position) else await started

    def start_publish(self, drafts: Sequence[Draft], grant: Grant) -> Position | Coroutine[None, None, Position]:
        """Publish `drafts` for a publisher with `grant`: all or none.

        What is certainly not published does not count against the rate of the publisher. A 504 counts: the events may
        be published.

        Returns the position of the last event or, if the bus has not answered yet, a coroutine that waits for it.
        Awaiting costs a task's step, and most buses answer at once. If the coroutine is cancelled, or never awaited,
        the events are published nevertheless, unless they wait for a removal (see `removing`).

        Raises `PublishError`, in this order: 413 for more events than `check_count` allows, 400 for a malformed type,
        403 for one that is not covered, polled or built in, 413 for data over the limit, 507 if too much would be
        retained, 429 for more than the publisher may send now, 503 while the bus is lost. The coroutine raises it too:
        503 if the bus refused, 504 if the outcome is unknown (perhaps published, now or later).
        """
        self.check_count(len(drafts))
        event_types = dict.fromkeys([draft.type for draft in drafts])
        for event_type in event_types:
            _check_event_type(event_type)
        _check_covered(event_types, grant)
        for event_type in event_types:
            self._check_publishable(event_type)
        for draft in drafts:
            if len(draft.data) > self._options.event_bytes:
                raise PublishError(
                    f"expected data of at most {self._options.event_bytes} bytes, got {len(draft.data)}", status=413
                )
        self._check_retained(drafts)
        self._charge(grant, len(drafts))
        return self._hand_to_bus(drafts, grant)

    def check_count(self, count: int) -> None:
        """Raise `PublishError` (413) for more events in one request than a publisher may ever send at once."""
        most = self._options.publishes.burst
        if count > most:
            raise PublishError(f"expected at most {most} events (limits.publishes_burst), got {count}", status=413)

    async def forget(self, event_type: str, key: str, grant: Grant) -> Position:
        """Remove a retained value for a publisher with `grant`, by publishing an event with `gone`.

        Raises `PublishError` for a type that is malformed, not covered, polled or built in, (429) for more than the
        publisher may send now, or (503, 504) as `publish` does; `UnknownName` where there is no such value.
        """
        _check_event_type(event_type)
        _check_covered([event_type], grant)
        self._check_publishable(event_type)
        if self._kept.retained.get(event_type, key) is None:
            self._kept.published.forget((event_type, key))
            raise UnknownName(f"expected the type and key of a retained value, got {event_type!r} with key {key!r}")
        self._charge(grant, 1)
        started = self._hand_to_bus([gone_draft(event_type, key)], grant)
        return started if isinstance(started, Position) else await started

    def names_under_way(self) -> set[Name]:
        """Return the names of all values that were handed to the bus and not answered yet."""
        return {(draft.type, draft.key or "") for drafts in self._under_way.values() for draft in drafts}

    @contextmanager
    def removing(self, names: Collection[Name]) -> Iterator[None]:
        """Remove the expired values `names` in this context: who publishes one of them waits until it is left.

        Otherwise the bus might take the new value first, and the removal of the old one would remove the new one.
        Only one such context is open at a time.
        """
        removal = self._removal = _Removal(frozenset(names))
        try:
            yield
        finally:
            self._removal = None
            removal.over.set()

    def forget_idle(self, now: float) -> None:
        """Forget publishers that have their whole rate back. Call now and then; `now` is monotonic."""
        self._allowances.forget_idle(now)

    def _hand_to_bus(self, drafts: Sequence[Draft], grant: Grant) -> Position | Coroutine[None, None, Position]:
        if self.refused_for is not None:
            raise self._not_taken(drafts, grant, self.refused_for)
        if self._removal is not None and self._removal.concerns(drafts):
            return self._hand_over_after(self._removal, drafts, grant)
        pending = self._publisher.hand_over(drafts)
        if (position := pending.position) is not None:
            return position
        number = next(self._numbers)
        self._under_way[number] = drafts
        # A task that is cancelled before its first step never runs the coroutine, so its `finally` is not enough.
        pending.outcome.add_done_callback(lambda outcome: self._forget_unawaited(number, outcome))
        return self._wait_for_outcome(number, drafts, grant, pending)

    async def _hand_over_after(self, removal: "_Removal", drafts: Sequence[Draft], grant: Grant) -> Position:
        number = next(self._numbers)
        self._under_way[number] = drafts  # so that the next round of expiry leaves these names alone
        try:
            async with deadline(self._clock, self._options.publish_timeout_s):
                await removal.over.wait()
        except TimeoutError as error:
            why = "the bus has not said yet whether it took the removal of an expired value of the same name"
            raise self._not_taken(drafts, grant, why) from error
        finally:
            del self._under_way[number]
        try:
            for draft in drafts:
                self._check_publishable(draft.type)  # meanwhile it may have become the type of a source
        except PublishError:
            self._allowances.refund(grant.name, len(drafts))
            raise
        started = self._hand_to_bus(drafts, grant)
        return started if isinstance(started, Position) else await started

    async def _wait_for_outcome(
        self, number: int, drafts: Sequence[Draft], grant: Grant, pending: PendingPublish
    ) -> Position:
        self._awaited.add(number)
        try:
            return await self._publisher.outcome_within(pending, self._options.publish_timeout_s)
        except BusUnknown as error:
            message = f"the bus has not said whether it took this ({error}): it may be published, or be yet"
            raise PublishError(message, status=504, retry_after_s=RETRY_AFTER_S) from error
        except BusError as error:
            raise self._not_taken(drafts, grant, str(error)) from error
        finally:
            self._awaited.discard(number)
            self._under_way.pop(number, None)

    def _forget_unawaited(self, number: int, outcome: asyncio.Future[Position]) -> None:
        """The bus has answered a publish whose coroutine never ran: it counts no longer."""
        if number not in self._awaited:
            self._under_way.pop(number, None)
            if not outcome.cancelled():
                outcome.exception()  # asyncio logs an exception that nobody retrieves

    def _check_retained(self, drafts: Sequence[Draft]) -> None:
        # What the bus has not delivered yet will be retained too, so it counts.
        self._kept.quota.check(itertools.chain(*self._under_way.values(), drafts) if self._under_way else drafts)

    def _charge(self, grant: Grant, count: int) -> None:
        if wait_s := self._allowances.charge(grant.name, self._clock.now().mono, count):
            raise PublishError(
                f"expected at most {self._options.publishes.per_s:g} events per second (limits.publishes_per_s)"
                f" and publisher, got {count} too early",
                status=429,
                retry_after_s=math.ceil(wait_s),
            )

    def _not_taken(self, drafts: Sequence[Draft], grant: Grant, why: str) -> PublishError:
        """Return the error of `drafts` that were charged, and that the bus did not take. They are not charged then."""
        self._allowances.refund(grant.name, len(drafts))
        message = f"{ErrorCode.BUS_DISCONNECTED}: nothing was published ({why})"
        return PublishError(message, status=503, retry_after_s=RETRY_AFTER_S)

    def _check_publishable(self, event_type: str) -> None:
        if event_type in RESERVED_TYPES:
            raise PublishError(f"{event_type!r} is a name that only the gateway itself uses", status=403)
        if event_type in self._kept.ours:
            raise PublishError(f"{event_type!r} is polled from a backend: nobody else may publish it", status=403)


class _Removal:
    """Expired values whose removal was handed to the bus. `over` is set once its outcome is known."""

    def __init__(self, names: frozenset[Name]) -> None:
        self._names = names
        self.over = asyncio.Event()

    def concerns(self, drafts: Sequence[Draft]) -> bool:
        """Whether one of `drafts` changes one of the values."""
        return any(draft.retain and (draft.type, draft.key or "") in self._names for draft in drafts)


def _check_covered(event_types: Iterable[str], grant: Grant) -> None:
    """Raise `PublishError` (403) unless `grant` covers all of `event_types`.

    The first of the checks that lead to a 403: a publisher must not learn whether a type that it may not publish is
    polled.
    """
    allowed: PatternSet = grant.allowed
    if uncovered := [each for each in event_types if not allowed.matches(each)]:
        raise PublishError(f"the token does not cover {', '.join(sorted(uncovered)[:SHOWN])}", status=403)


@lru_cache(maxsize=EVENT_TYPES)
def _check_event_type(event_type: str) -> None:
    try:
        check_event_type(event_type)
    except TopicError as error:
        raise PublishError(str(error), status=400) from error
