"""What publishers have retained: when each value ends, and what of it is on disk.

What reaches the disk is decided here and nowhere else: what the bus has delivered. So a publish that was refused leaves
nothing there. Polled values are saved by their pollers.
"""

import asyncio
from collections.abc import Collection, Generator, Sequence
from typing import TypeVar

import structlog

from tidegate.core.delivery.published_value import (
    PublishedValue,
    Restoration,
    RestoreLimits,
    judged,
    name_of,
    restored_draft,
)
from tidegate.core.delivery.retained import Name, Retained
from tidegate.core.envelope import encode_draft
from tidegate.core.events import Event
from tidegate.core.instant import Instant
from tidegate.errors import BusError, StoreError
from tidegate.ports import Clock, KeepsPublished, Store, Timer
from tidegate.runtime.event_publisher import EventPublisher
from tidegate.runtime.gateway_options import GatewayOptions

HAND_OVER_S = 0.1
"""What was delivered waits so long for the store, and is handed over together: that makes each publish cheap."""

EXPIRED_AT_ONCE = 500
"""Most values that are expired in one publish. Other tasks run between two publishes, so clients do not wait long."""

MOVED_AT_ONCE = 500
"""Most values that are saved again in one turn of the event loop after the wall clock was set."""

T = TypeVar("T")

SHOWN = 10
"""How many types a line of the log names at most."""

log = structlog.get_logger("tidegate.gateway")


class PublishedValues:
    """The published values in `retained`. `ours` are the retained types that only the gateway itself publishes.

    With a `store` that is a `KeepsPublished`, they are kept over a restart, within the limits of `options`. Call `end`
    before a type is added to `ours`.
    """

    def __init__(
        self,
        retained: Retained,
        publisher: EventPublisher,
        clock: Clock,
        options: GatewayOptions,
        *,
        ours: Collection[str],
        store: Store | None,
    ) -> None:
        self._retained = retained
        self._ours = ours
        self._limits = RestoreLimits(
            source_types=options.source_types,
            retained_keys=options.retained_keys,
            retained_bytes=options.retained_bytes,
            event_bytes=options.event_bytes,
        )
        supplied: object = store
        self._store = supplied if isinstance(supplied, KeepsPublished) else None
        self._publisher = publisher
        self._clock = clock
        self._timeout_s = options.publish_timeout_s
        self.expires: dict[Name, float] = {}
        """The monotonic time at which each value with a `ttl_s` ends."""
        self._changed: dict[Name, Event] = {}
        """What was delivered and not handed to the store yet."""
        self._hand_over_timer: Timer | None = None
        self._restored: dict[Name, PublishedValue] = {}
        """What is being published again just now: it is on disk already."""
        self._only_on_disk: set[Name] = set()
        """What was not restored, and is on disk still."""
        self._moved: list[Name] = []
        """What is to be saved again because the wall clock was set."""
        self._ended_types: set[str] = set()
        """Types that publishers had before they became ours."""

    def note(self, event: Event, now: Instant) -> None:
        """`event`, which retains or removes a value, was delivered `now`."""
        draft = event.draft
        name = (draft.type, draft.key or "")
        self.expires.pop(name, None)
        if draft.type in self._ours:
            if draft.type in self._ended_types and draft.source is None and not draft.gone:
                self.expires[name] = now.mono  # it was on its way when its type ended
            return
        if draft.ttl_s is not None and not draft.gone:
            self.expires[name] = now.mono - event.age_s + draft.ttl_s
        if self._store is not None and not self._is_on_disk(name, event):
            self._changed[name] = event
            if self._hand_over_timer is None:
                self._hand_over_timer = self._clock.call_at(now.mono + HAND_OVER_S, self.save)

    def save(self) -> None:
        """Hand everything that was noted to the store, as one change. Call it at the end; meanwhile a timer does."""
        if self._hand_over_timer is not None:
            self._hand_over_timer.cancel()
            self._hand_over_timer = None
        changed, self._changed = self._changed, {}
        now = self._clock.now()
        values = [self._row(event, now) for event in changed.values() if not event.draft.gone]
        self._hand_over(values, [name for name, event in changed.items() if event.draft.gone])

    def clear(self) -> None:
        """Another epoch has begun, without any of the values in `retained`. Call this before they are cleared there."""
        self.expires.clear()
        changed, self._changed = self._changed, {}  # a value that was removed just now is in `retained` no more
        self._restored.clear()
        self._hand_over([], [*changed, *(name for name in self._retained.walk() if name[0] not in self._ours)])

    def clock_set(self) -> None:
        """The wall clock was set. Save when each value ends by the new time, within a few turns of the event loop."""
        if self._store is not None and self.expires:
            moved = [name for name in self.expires if name[0] not in self._ours]
            is_busy, self._moved = bool(self._moved), moved
            if not is_busy:
                self._save_moved()

    def end(self, event_types: Collection[str], now: Instant) -> list[Name]:
        """Publishers lose `event_types`: their values end `now`, and leave the disk. Return the names of the values.

        Each is in `expires` until an event with `gone`, or a value of ours, has taken its place.
        """
        names = list(self._retained.walk(event_types))
        self._ended_types.update(event_types)
        self.expires.update(dict.fromkeys(names, now.mono))
        waiting = [name for name in (*self._changed, *self._only_on_disk) if name[0] in event_types]
        for name in waiting:
            self._changed.pop(name, None)
            self._only_on_disk.discard(name)
        self._hand_over([], list(dict.fromkeys([*names, *waiting])))
        return names

    def forget(self, name: Name) -> None:
        """A publisher wants `name` to be gone, which is not retained. It may be on disk, left out at the start."""
        if name in self._only_on_disk:
            self._only_on_disk.discard(name)
            self._hand_over([], [name])

    async def restore(self) -> None:
        """Publish what the store has kept, with the `timestamp` of each value, and wait until it is delivered.

        Deletes what has ended meanwhile, and what is now of a type of ours. What cannot be published is logged, and
        stays on disk. Cancelling leaves the rest unpublished.
        """
        if self._store is None:
            return
        try:
            saved = list(await self._store.load_published())
        except StoreError as error:
            log.error("published values not restored, they could not be read", error=str(error))
            return
        found = await _in_steps(judged(saved, self._limits, self._clock.now()))
        self._only_on_disk.update(found.left_out, found.malformed)
        self._hand_over([], [*found.ended, *found.taken])
        _tell_unrestored(found)
        count = await self._publish_all(found)
        if count or found.ended:
            log.info("published values restored", count=count, ended_meanwhile=len(found.ended))

    async def _publish_all(self, found: Restoration) -> int:
        """Publish `found.values`, as far as the bus takes them. Return how many it took."""
        count = 0
        for piece in found.pieces():
            try:
                await self._publish_again(piece)
            except BusError as error:
                left = [name_of(value) for value in (*piece, *found.values)]
                self._only_on_disk.update(left)
                log.error("published values not restored", count=len(left), error=str(error))
                break
            count += len(piece)
            await asyncio.sleep(0)
        self._restored.clear()
        return count

    async def _publish_again(self, values: Sequence[PublishedValue]) -> None:
        now = self._clock.now()
        self._restored = {name_of(value): value for value in values}
        drafts = [encode_draft(restored_draft(value, now), timestamp=value.timestamp) for value in values]
        await self._publisher.outcome_within(self._publisher.start(drafts), self._timeout_s)

    def _is_on_disk(self, name: Name, event: Event) -> bool:
        saved = self._restored.pop(name, None)
        return saved is not None and (saved.timestamp, saved.data) == (event.timestamp, event.draft.data)

    def _row(self, event: Event, now: Instant) -> PublishedValue:
        draft, key = event.draft, event.draft.key or ""
        ends = self.expires.get((draft.type, key))
        ends_at = None if ends is None else now.wall_at(ends)
        return PublishedValue(draft.type, key, draft.data, event.timestamp, draft.ttl_s, ends_at)

    def _save_moved(self) -> None:
        now = self._clock.now()
        names, self._moved = self._moved[:MOVED_AT_ONCE], self._moved[MOVED_AT_ONCE:]
        events = [self._retained.get(*name) for name in names]
        values = [self._row(event, now) for event in events if event is not None]
        self._hand_over(values, [])
        if self._moved:
            asyncio.get_running_loop().call_soon(self._save_moved)

    def _hand_over(self, values: Sequence[PublishedValue], gone: Sequence[Name]) -> None:
        if self._store is None or not (values or gone):
            return
        try:
            self._store.save_published(values, gone=gone)
        except Exception:  # other people's code: it must not keep an event from the clients
            log.exception("the store failed in a way that it must not", values=len(values), gone=len(gone))


async def _in_steps(steps: Generator[None, None, T]) -> T:
    """Run `steps` to the end, with a turn of the event loop after each. Return what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


def _tell_unrestored(found: Restoration) -> None:
    if found.left_out:
        log.warning(
            "published values left out, they exceed limits.retained_keys, retained_bytes or event_bytes",
            count=len(found.left_out),
            remedy="they stay on disk: raise the limits and restart to have them again",
        )
    if found.malformed:
        log.warning(
            "published values left out, their names are malformed",
            count=len(found.malformed),
            first=found.malformed[0],
        )
    if found.taken:
        log.warning(
            "published values deleted, their types are now polled or built in",
            count=len(found.taken),
            types=sorted({event_type for event_type, _ in found.taken})[:SHOWN],
        )
