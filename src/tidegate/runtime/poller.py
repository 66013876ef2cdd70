"""The polling of one backend: wait, take a place, ask the breaker, call under a deadline, record, publish.

One task keeps the schedule of all the backend's sources. What is due gets a `_Turn`: it waits for one of the backend's
places, then it is a task of its own, at most one per source at a time. Of a breaker that isn't closed one turn at a
time is let into the line: the probe. After each exchange everything that it changed is published in one go: the
breaker's move, the source's data, and what the move means for the other sources of that breaker.
"""

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import msgspec
import structlog

from tidegate.core.breaker import Breaker, BreakerView, Permit, State, Transition, open_period_s
from tidegate.core.built_in import BreakerState, RpcError
from tidegate.core.envelope import raw
from tidegate.core.episodes import ErrorReports
from tidegate.core.events import Draft
from tidegate.core.freshness import Freshness, Value
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.measurements import BreakerMoved, PollEnded, TicksMissed
from tidegate.core.outcome import Fault, Outcome, Verdict, batch_verdict, hold_s
from tidegate.core.places import Places
from tidegate.core.schedule import Schedule
from tidegate.errors import ErrorCode
from tidegate.ports import Backend, Clock, Metrics, SavedValue, Store
from tidegate.runtime.exchange import BackendPlan, Prepared, SourcePlan, exchange, prepare
from tidegate.runtime.gateway import Gateway

AT_DEADLINE_S = 0.02
"""A call whose deadline is no farther away is about to end, well or not: what that is will be said then, once."""

END_S = 0.25
"""How long the end of a call at its deadline is waited for. A backend that does not let itself be cancelled takes
longer."""

log = structlog.get_logger("tidegate.poller")


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /api/v1/status` shows of a source, but for its times. A field that is added here is shown.

    `max_age_s` is the age at which its data is stale although no call has failed, at the interval of now.
    """

    type: str
    backend: str
    interval_s: float
    max_age_s: float
    on_change: bool
    stale: bool
    error_code: ErrorCode | None
    missed_ticks: int


class SourceView(SourceFacts, frozen=True, kw_only=True):
    """A source as it is now; times in Unix seconds."""

    as_of: float | None
    next_poll_at: float


class _Source:
    """What is known of one source while it is polled."""

    __slots__ = (
        "about",
        "auth_refusals",
        "awaited_until",
        "backs_off_until",
        "deadline",
        "freshness",
        "idle",
        "in_flight",
        "last_sent",
        "missed_told",
        "plan",
        "reports",
        "requests",
        "settled",
    )

    def __init__(self, plan: SourcePlan, rpc_error_interval_s: float) -> None:
        self.plan = plan
        self.about = frozenset({plan.spec.type})
        self.freshness = Freshness(plan.spec)
        self.reports = ErrorReports(rpc_error_interval_s)
        self.requests = 0
        self.in_flight = False
        self.settled = False
        self.idle = False
        self.auth_refusals = 0
        self.backs_off_until = float("-inf")
        self.last_sent = float("-inf")
        self.deadline = float("inf")
        self.awaited_until: float | None = None
        self.missed_told = 0

    def awaits_end(self, now: float) -> bool:
        """Whether its call is at its deadline, so that its end is about to say what is to be said of it."""
        if now < self.deadline - AT_DEADLINE_S:
            return False
        if self.awaited_until is None:
            self.awaited_until = now + END_S
        return now < self.awaited_until

    @property
    def review_at(self) -> float | None:
        """When age alone makes what was told last untrue, unless the end of its call is about to say so."""
        due = self.freshness.due_review_at
        return due if due is None or self.awaited_until is None else max(due, self.awaited_until)

    @property
    def type(self) -> str:
        return self.plan.spec.type

    def may_be_asked(self, now: Instant) -> bool:
        """Whether nothing of its own keeps it from being asked: a turn that it has already, or a refused account."""
        return not self.in_flight and self.backs_off_until <= now.mono


class _Turn:
    """The sources that are asked together next, from waiting for a place to the end of their exchange."""

    __slots__ = ("breaker", "group", "has_place", "is_over")

    def __init__(self, group: Sequence[_Source], breaker: Breaker) -> None:
        self.group = group
        self.breaker = breaker
        self.has_place = False
        self.is_over = False


class _Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn came to, source by source, and the breaker's move that it caused; `now` is when it ended."""

    outcomes: Sequence[tuple[Outcome, Value | None]]
    sent: Instant
    now: Instant
    transition: Transition | None = None


class BackendPoller:
    """Polls one backend until `run` is cancelled.

    `rng` draws phases and jitter. `store` is None where nothing is kept on disk.
    """

    def __init__(
        self,
        plan: BackendPlan,
        *,
        backend: Backend,
        gateway: Gateway,
        clock: Clock,
        metrics: Metrics,
        store: Store | None,
        rng: random.Random,
    ) -> None:
        now = clock.now()
        self.name = plan.name
        self._plan = plan
        self._backend = backend
        self._gateway = gateway
        self._clock = clock
        self._metrics = metrics
        self._store = store
        self._rng = rng
        self._sources = {source.spec.type: _Source(source, plan.rpc_error_interval_s) for source in plan.sources}
        self._breakers = {
            name: Breaker(name, plan.breaker, now=now) for name in dict.fromkeys(s.breaker for s in plan.sources)
        }
        self._by_breaker: dict[str, list[_Source]] = {
            name: [source for source in self._sources.values() if source.plan.breaker == name]
            for name in self._breakers
        }
        self._places: Places[_Turn] = Places(plan.connections)
        self._probes: dict[str, _Turn] = {}  # by breaker, until its permit is given: then that tells
        self._held_back: dict[str, None] = {}  # sources of closed breakers that a hold refused a tick

        self.serves: Mapping[str, frozenset[str]] = {
            name: frozenset(s.spec.type for s in plan.sources if s.breaker == name) for name in self._breakers
        }
        """The sources that stand behind each breaker, by its name."""
        self._schedule = Schedule()
        self._enter_schedule(now)
        self._woken = asyncio.Event()

    # what others ask

    @property
    def event_types(self) -> Collection[str]:
        """The backend's sources."""
        return self._sources.keys()

    @property
    def settled(self) -> bool:
        """Whether every source's first attempt has ended, well or not."""
        return all(source.settled for source in self._sources.values())

    def breakers(self) -> list[BreakerView]:
        return [self._shown(breaker) for breaker in self._breakers.values()]

    def sources(self) -> list[SourceView]:
        now = self._clock.now()
        return [self._view(source, now) for source in self._sources.values()]

    async def command(self, breaker_name: str, action: str) -> BreakerView:
        """Carry out an operator's ``force-open``, ``force-closed`` or ``reset``; `KeyError` for anything else."""
        breaker = self._breakers[breaker_name]
        commands = {"force-open": breaker.force_open, "force-closed": breaker.force_closed, "reset": breaker.reset}
        now = self._clock.now()
        transition = commands[action](now)
        if action != "force-open":
            for other in self._breakers.values():
                other.release()
            self._woken.set()
        if transition is not None:
            await self._publish([self._breaker_draft(transition), *self._moved(transition, now)])
        return self._shown(breaker)

    def poll_now(self, event_types: Collection[str]) -> None:
        """Something changed at the backend: these sources of it are due now."""
        self._schedule.hint(event_types, self._clock.now().mono)
        self._woken.set()

    def restated(self, draft: Draft) -> Draft | None:
        """What a retained draft of one of this backend's sources has to say now; None for any other draft."""
        source = self._sources.get((draft.key or "") if draft.type == "source.freshness" else draft.type)
        if source is None:
            return None
        return source.freshness.restated(draft, self._clock.now(), self._breaker_view(source))

    def interest_changed(self) -> None:
        """Somebody came or went: sources with an idle interval that are wanted again are due now."""
        now = self._clock.now()
        for source in self._sources.values():
            if source.idle and self._is_wanted(source):
                self._schedule.hint([source.type], now.mono)
                self._woken.set()

    def clock_set(self) -> None:
        """The wall clock was set: what is on disk gets its `as_of` as that tells it now."""
        now = self._clock.now()
        for source in self._sources.values():
            self._save(source, source.freshness.items, now)

    # the loop

    async def restore(self, saved: Mapping[str, Mapping[str, SavedValue]]) -> None:
        """Publish the values that were read back from disk, by type and key, and the state of each breaker."""
        now = self._clock.now()
        drafts = []
        for breaker in self._breakers.values():
            first = breaker.initial()
            self._metrics.observe(BreakerMoved(first.breaker, first.state.value))
            drafts.append(self._breaker_draft(first))
        for source in self._sources.values():
            values = saved.get(source.type, {})
            value = _restored(values, keyed=source.plan.key is not None)
            if value is not None:
                view = self._breaker_view(source)
                as_of = _restored_as_of(values)
                drafts += source.freshness.restored(value, as_of=as_of, now=now, breaker=view).drafts
                if as_of > now.wall:
                    self._save(source, source.freshness.items, now)
        await self._publish(drafts)

    async def run(self) -> None:
        """Poll until cancelled. Calls under way are cancelled too, and say nothing about the backend."""
        async with asyncio.TaskGroup() as exchanges:
            while True:
                await self._wait()
                now = self._clock.now()
                self._make_up_for_hold(now)
                await self._publish(self._tick(now))
                await self._publish(self._overdue(now))
                while (turn := self._places.next()) is not None:
                    turn.has_place = True
                    task = exchanges.create_task(self._exchange(turn), name=f"poll {self.name}")
                    task.add_done_callback(partial(self._taken_back, turn))

    def _enter_schedule(self, now: Instant) -> None:
        phases: dict[float, float] = {}
        for source in self._sources.values():
            interval_s = source.plan.spec.interval_s
            phase = phases.setdefault(interval_s, self._rng.random())
            self._schedule.add(source.type, interval_s=interval_s, phase=phase, now=now.mono)

    async def _wait(self) -> None:
        """Until something is due: a tick, a probe, a value's age limit or the end of a hold; or until `_woken`."""
        now = self._clock.now()
        times = [self._schedule.next_at]
        times += [self._probe_at(name) for name in self._breakers]
        if self._held_back:
            times.append(self._hold_ends_at)
        times += [source.review_at for source in self._sources.values()]
        wake_at = min((at for at in times if at is not None), default=None)
        try:
            async with asyncio.timeout(None if wake_at is None else max(0.0, wake_at - now.mono)):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def _tick(self, now: Instant) -> list[Draft]:
        """Line up who is due, by a tick or as a probe; what is said again of those who may not be asked."""
        due: dict[str, list[_Source]] = {name: [] for name in self._breakers}
        for event_type in self._schedule.due(now.mono):
            source = self._sources[event_type]
            due[source.plan.breaker].append(source)
            self._set_idle(
                source, idle=source.plan.idle_interval_s is not None and not self._is_wanted(source), now=now
            )
        drafts = []
        for name, ticking in due.items():
            for source in ticking:
                if source.in_flight:
                    self._schedule.miss(source.type)
                self._tell_missed(source)
            asked = self._asked(name, ticking, now)
            chosen = set(asked)
            drafts += self._repeated((source for source in ticking if source not in chosen), now)
            if asked:
                self._line_up(name, asked)
        return drafts

    def _asked(self, breaker_name: str, ticking: Sequence[_Source], now: Instant) -> list[_Source]:
        """Who of a breaker's sources is asked now: of those whose tick it is all that may be; else the probe alone."""
        breaker = self._breakers[breaker_name]
        refused = breaker.refusal(now) is not None
        ready = [source for source in ticking if source.may_be_asked(now)]
        if breaker.is_closed:
            self._note_held_back(ready, breaker, now)
            return [] if refused else ready
        able = [source for source in self._by_breaker[breaker_name] if source.may_be_asked(now)]
        if refused or not able or breaker_name in self._probes:
            return []
        probe = min(able, key=lambda source: source.last_sent)
        return [probe, *(source for source in ready if source is not probe)] if self._plan.batch else [probe]

    def _line_up(self, breaker_name: str, asked: Sequence[_Source]) -> None:
        """Have `asked` wait for a place: together where they share an exchange."""
        breaker = self._breakers[breaker_name]
        for group in [asked] if self._plan.batch else [[source] for source in asked]:
            turn = _Turn(group, breaker)
            for source in group:
                source.in_flight = True
            if not breaker.is_closed:
                self._probes[breaker_name] = turn
            asked_at = min(source.last_sent for source in group)
            self._places.wait(turn, asked_at=asked_at, probes=not breaker.is_closed)

    def _probe_at(self, breaker_name: str) -> float | None:
        """Monotonic time at which a source has to be chosen as the probe; None if that is not up to time."""
        at = self._breakers[breaker_name].probe_at_mono
        if at is None or breaker_name in self._probes:
            return None
        able_at = [source.backs_off_until for source in self._by_breaker[breaker_name] if not source.in_flight]
        return max(at, min(able_at)) if able_at else None

    def _make_up_for_hold(self, now: Instant) -> None:
        """A hold has ended: who was refused a tick meanwhile is asked, one after the other at the usual pace.

        A breaker that is not closed has its probe, and is spread when it closes.
        """
        if not self._held_back or now.mono < self._hold_ends_at:
            return
        names = [name for name in self._held_back if self._breakers[self._sources[name].plan.breaker].is_closed]
        names.sort(key=lambda name: self._sources[name].last_sent)
        self._held_back.clear()
        if self._plan.batch:
            self._schedule.hint(names, now.mono)
        else:
            self._schedule.spread(names, now.mono, jitter=0.0)

    def _repeated(self, sources: Iterable[_Source], now: Instant) -> list[Draft]:
        """What a due tick says of sources that are not asked, or are being asked."""
        drafts = []
        for source in sources:
            source.settled = source.settled or not source.in_flight
            if source.settled and not source.awaits_end(now.mono):
                drafts += source.freshness.repeat(now, self._breaker_view(source)).drafts
        return drafts

    def _withdrawn(self, now: Instant) -> list[_Source]:
        """Take those out of the line whose breaker refuses them now; they do as on a tick that is refused."""
        sources: list[_Source] = []
        for turn in self._places.withdraw(lambda turn: turn.breaker.refusal(now) is not None):
            sources += turn.group
            self._note_held_back(turn.group, turn.breaker, now)
            self._taken_back(turn)
        return sources

    def _note_held_back(self, sources: Iterable[_Source], breaker: Breaker, now: Instant) -> None:
        """If a hold alone keeps `sources` from being asked, they are as soon as it ends."""
        if breaker.is_closed and breaker.refusal(now) is not None:
            self._held_back |= dict.fromkeys(source.type for source in sources)

    def _taken_back(self, turn: _Turn, _: object = None) -> None:
        """The turn is over, or was withdrawn: its sources may be asked again. Counts once.

        Called by the task as soon as its call is over, and again when it has ended, which is all that is heard of one
        that was cancelled before it began.
        """
        if turn.is_over:
            return
        turn.is_over = True
        self._no_longer_waits(turn)
        if turn.has_place:
            self._places.leave()
        for source in turn.group:
            source.in_flight = False
            source.deadline = float("inf")
            source.awaited_until = None
        self._woken.set()

    def _tell_missed(self, source: _Source) -> None:
        """Count for the metrics what the schedule has counted since: ticks under a call, or under our own lateness."""
        missed = self._schedule.missed(source.type)
        if missed > source.missed_told:
            self._metrics.observe(TicksMissed(source.type, missed - source.missed_told))
            source.missed_told = missed

    async def _exchange(self, turn: _Turn) -> None:
        """One turn at the backend, which has a place: from what has to be there first to what it publishes."""
        group = turn.group
        began = self._clock.now()
        try:
            prepared = await prepare(self._backend, self._plan)
            now = self._clock.now()
            ended: _Ended | None
            if isinstance(prepared, Fault):
                ended = _Ended(outcomes=[(prepared, None)] * len(group), sent=began, now=now)
            else:
                ended = await self._called(turn, prepared, now)
        finally:
            self._taken_back(turn)
        if ended is None:
            self._note_held_back(group, turn.breaker, now)
        await self._publish(self._repeated(group, now) if ended is None else self._ended(group, ended))

    async def _called(self, turn: _Turn, prepared: Prepared, now: Instant) -> "_Ended | None":
        """Call the backend, if its breaker still lets us, and record the end; None if it does not."""
        group, breaker = turn.group, turn.breaker
        permit = breaker.permit(now)
        self._no_longer_waits(turn)
        if not isinstance(permit, Permit):
            return None
        verdict, fault, wish_s = Verdict.IGNORED, None, 0.0
        came_from: frozenset[str] = frozenset()
        try:
            if permit.transition is not None:
                await self._publish([self._breaker_draft(permit.transition), *self._moved(permit.transition, now)])
            sent = self._clock.now()
            for source in group:
                source.last_sent = sent.mono
                source.deadline = sent.mono + self._plan.timeout_s
            plans = [source.plan for source in group]
            outcomes = await exchange(prepared, self._plan, plans, monotonic=self._monotonic)
            verdict, fault = batch_verdict(outcome for outcome, _ in outcomes)
            wish_s = hold_s(outcome for outcome, _ in outcomes)
            came_from = frozenset(
                source.type for source, (outcome, _) in zip(group, outcomes, strict=True) if outcome == fault
            )
        finally:
            now = self._clock.now()
            if wish_s:
                self._hold(Instant(now.mono + wish_s, now.wall + wish_s))
            transition = breaker.record(
                permit, verdict, now=now, jitter=self._rng.random(), fault=fault, came_from=came_from
            )
        return _Ended(outcomes=outcomes, sent=sent, now=now, transition=transition)

    def _hold(self, until: Instant) -> None:
        """The backend asks to be left alone, by all: each of its breakers is told.

        Who waits for a place is refused in its turn, which comes at once: the call that brought this leaves its own.
        """
        for breaker in self._breakers.values():
            breaker.hold(until)
        log.info("backend asks to be left alone", backend=self.name, until=rfc3339(until.wall))

    def _no_longer_waits(self, turn: _Turn) -> None:
        """From here on its permit tells that a probe is out, or there is none."""
        if self._probes.get(turn.breaker.name) is turn:
            del self._probes[turn.breaker.name]

    # what an exchange changes

    def _ended(self, group: Sequence[_Source], ended: _Ended) -> list[Draft]:
        """Everything that the end of a turn publishes."""
        now, transition = ended.now, ended.transition
        drafts = [] if transition is None else [self._breaker_draft(transition)]
        for source, (outcome, value) in zip(group, ended.outcomes, strict=True):
            source.requests += 1
            source.settled = True
            code = outcome.code if isinstance(outcome, Fault) else None
            self._metrics.observe(PollEnded(source.type, code, now.mono - ended.sent.mono))
            drafts += self._settle(source, outcome, value, ended.sent, now)
        if transition is not None:
            drafts += self._moved(transition, now, told=group)
        return drafts

    def _settle(
        self, source: _Source, outcome: Outcome, value: Value | None, sent: Instant, now: Instant
    ) -> list[Draft]:
        breaker = self._breaker_view(source)
        if isinstance(outcome, Fault):
            self._back_off(source, outcome, now)
            update = source.freshness.failed(source.requests, code=outcome.code, now=now, breaker=breaker)
            return update.drafts + self._report(source, outcome, now, breaker)
        assert value is not None, "an answer has a value"
        source.auth_refusals = 0
        recovery = source.reports.recovered(now.mono)
        if recovery is not None:
            log.info(
                "source recovered",
                source=source.type,
                backend=self.name,
                failures=recovery.failures,
                after_s=round(recovery.duration_s, 3),
            )
        update = source.freshness.answered(source.requests, sent=sent, value=value, now=now, breaker=breaker)
        if update.as_of is not None:
            self._gateway.refresh(source.type, update.as_of)
        told = [draft for draft in update.drafts if draft.type == source.type]
        changed = {draft.key for draft in told} if source.plan.key else {None}
        self._save(source, changed, now, gone=[draft.key for draft in told if draft.gone])
        return update.drafts

    def _back_off(self, source: _Source, fault: Fault, now: Instant) -> None:
        """An account that is refused is asked less and less, so that nobody locks it."""
        if fault.code is ErrorCode.RPC_AUTH:
            source.auth_refusals += 1
            config = self._plan.breaker
            source.backs_off_until = now.mono + open_period_s(
                source.auth_refusals, open_s=config.open_s, open_max_s=config.open_max_s, jitter=self._rng.random()
            )

    def _report(self, source: _Source, fault: Fault, now: Instant, breaker: BreakerView) -> list[Draft]:
        report = source.reports.failed(now.mono, fault)
        if report is None:
            return []
        if report.consecutive_failures == 1:
            log.warning(
                "source failing",
                source=source.type,
                backend=self.name,
                error_code=fault.code.value,
                error=fault.message,
                breaker=breaker.state.value,
            )
        retry_at = breaker.next_try_at(now)
        data = RpcError(
            backend=self.name,
            source=source.type,
            error_code=fault.code,
            message=fault.message,
            consecutive_failures=report.consecutive_failures,
            retry_at=None if retry_at is None else rfc3339(retry_at),
            suppressed=report.suppressed,
        )
        return [Draft(type="rpc_error", data=raw(data), about=source.about)]

    def _moved(self, transition: Transition, now: Instant, told: Sequence[_Source] = ()) -> list[Draft]:
        """What a breaker's move publishes after itself: the sources of it for which it changes the verdict.

        `told` are those that the exchange which moved it speaks of already.
        """
        log.info(
            "breaker moved",
            breaker=transition.breaker,
            state=transition.state.value,
            reason=transition.reason.value,
            failures=transition.failure_count,
            retry_at=None if transition.retry_at is None else rfc3339(transition.retry_at),
        )
        self._metrics.observe(BreakerMoved(transition.breaker, transition.state.value))
        self._woken.set()
        others = [source for source in self._by_breaker[transition.breaker] if source not in told]
        if transition.state is State.CLOSED and not self._plan.batch:
            self._schedule.spread([source.type for source in others], now.mono, jitter=self._rng.random())
        withdrawn = self._withdrawn(now)
        drafts = self._repeated(withdrawn, now)
        for source in others:
            if source not in withdrawn and now.mono < source.deadline:  # else the end of its call tells what it means
                drafts += source.freshness.review(now, self._breaker_view(source)).drafts
        return drafts

    def _overdue(self, now: Instant) -> list[Draft]:
        """What time alone has made stale or expired."""
        drafts = []
        for source in self._sources.values():
            review_at = source.review_at
            if review_at is not None and review_at <= now.mono and not source.awaits_end(now.mono):
                drafts += source.freshness.review(now, self._breaker_view(source)).drafts
        return drafts

    async def _publish(self, drafts: Sequence[Draft]) -> None:
        if drafts:
            await self._gateway.publish(drafts)

    def _save(
        self, source: _Source, keys: Collection[str | None], now: Instant, gone: Collection[str | None] = ()
    ) -> None:
        """Keep the values of `keys`. The row of a keyed source without a key tells when its items were last seen."""
        as_of = source.freshness.status(now, self._breaker_view(source)).as_of
        if self._store is None or as_of is None:
            return
        items = source.freshness.items
        values = [SavedValue(source.type, key or "", bytes(items[key]), as_of) for key in keys if key in items]
        if source.plan.key:
            values.append(SavedValue(source.type, "", b"null", as_of))
        self._store.save(values, gone=[(source.type, key or "") for key in gone])

    # small things

    @property
    def _hold_ends_at(self) -> float:
        """Monotonic time at which the backend's newest hold ends or ended; it is the same for all its breakers."""
        held_until = next((breaker.view().held_until for breaker in self._breakers.values()), None)
        return float("-inf") if held_until is None else held_until.mono

    def _next_poll_at(self, source: _Source, breaker: BreakerView, now: Instant) -> float:
        """Monotonic time at which `source` is asked next, unless its breaker refuses it."""
        at = max(self._schedule.next_due(source.type), source.backs_off_until)
        if breaker.held_until is None or now.mono >= breaker.held_until.mono:
            return at
        return breaker.held_until.mono if source.type in self._held_back else max(at, breaker.held_until.mono)

    def _breaker_draft(self, transition: Transition) -> Draft:
        data = BreakerState(
            breaker=transition.breaker,
            state=transition.state,
            from_state=transition.from_state,
            reason=transition.reason,
            forced=transition.forced,
            failure_count=transition.failure_count,
            open_count=transition.open_count,
            opened_at=None if transition.opened_at is None else rfc3339(transition.opened_at),
            retry_at=None if transition.retry_at is None else rfc3339(transition.retry_at),
        )
        return Draft(
            type="circuit_breaker.state",
            data=raw(data),
            key=transition.breaker,
            retain=True,
            about=self.serves[transition.breaker],
        )

    def _monotonic(self) -> float:
        return self._clock.now().mono

    def _set_idle(self, source: _Source, *, idle: bool, now: Instant) -> None:
        if source.idle != idle:
            source.idle = idle
            interval_s = source.plan.idle_interval_s if idle else None
            interval_s = source.plan.spec.interval_s if interval_s is None else interval_s
            self._schedule.set_interval(source.type, interval_s, now.mono)
            source.freshness.set_interval(interval_s)

    def _is_wanted(self, source: _Source) -> bool:
        return self._gateway.is_wanted(source.type)

    def _breaker_view(self, source: _Source) -> BreakerView:
        return self._shown(self._breakers[source.plan.breaker])

    def _shown(self, breaker: Breaker) -> BreakerView:
        breaker.follow_clock(self._clock.now())
        return breaker.view()

    def _view(self, source: _Source, now: Instant) -> SourceView:
        breaker = self._breaker_view(source)
        status = source.freshness.status(now, breaker)
        plan = source.plan
        return SourceView(
            type=source.type,
            backend=self.name,
            interval_s=plan.idle_interval_s if source.idle and plan.idle_interval_s else plan.spec.interval_s,
            max_age_s=source.freshness.max_age_s,
            on_change=plan.spec.on_change,
            stale=status.stale,
            as_of=status.as_of,
            error_code=status.error_code,
            next_poll_at=now.wall + self._next_poll_at(source, breaker, now) - now.mono,
            missed_ticks=self._schedule.missed(source.type),
        )


def _restored(values: Mapping[str, SavedValue], *, keyed: bool) -> Value | None:
    """The saved value in the shape that the source has now; None if it was of the other."""
    if keyed:
        return {key: msgspec.Raw(value.data) for key, value in values.items() if key} or None
    return msgspec.Raw(values[""].data) if "" in values else None


def _restored_as_of(values: Mapping[str, SavedValue]) -> float:
    """When the saved value was last seen: the row without a key tells, which is written with each answer."""
    return values[""].as_of if "" in values else max(value.as_of for value in values.values())
