"""The polling of one backend: wait, ask the breaker, call under a deadline, record, publish.

One task keeps the schedule of all the backend's sources; each exchange is a task of its own, at most one per source
at a time. After each exchange everything that it changed is published in one go: the breaker's move, the source's data,
and what the move means for the other sources of that breaker.
"""

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
import structlog

from tidegate.core.breaker import Breaker, BreakerView, Permit, State, Transition, open_period_s
from tidegate.core.built_in import BreakerState, RpcError
from tidegate.core.envelope import raw
from tidegate.core.episodes import ErrorReports
from tidegate.core.events import Draft
from tidegate.core.freshness import Freshness, Update, Value
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.outcome import Fault, Outcome, Verdict, batch_verdict
from tidegate.core.schedule import Schedule
from tidegate.errors import ErrorCode
from tidegate.ports import Backend, Clock, Metrics, SavedValue, Store
from tidegate.runtime.exchange import BackendPlan, SourcePlan, exchange
from tidegate.runtime.gateway import Gateway

log = structlog.get_logger("tidegate.poller")


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A source as ``GET /api/v1/status`` shows it; times in Unix seconds.

    `max_age_s` is the age at which its data is stale although no call has failed, at the interval of now.
    """

    type: str
    backend: str
    interval_s: float
    max_age_s: float
    on_change: bool
    stale: bool
    as_of: float | None
    error_code: ErrorCode | None
    next_poll_at: float
    missed_ticks: int


class _Source:
    """What is known of one source while it is polled."""

    __slots__ = (
        "about",
        "auth_refusals",
        "backs_off_until",
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
        self.missed_told = 0

    @property
    def type(self) -> str:
        return self.plan.spec.type


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
        return [breaker.view() for breaker in self._breakers.values()]

    def sources(self) -> list[SourceView]:
        now = self._clock.now()
        return [self._view(source, now) for source in self._sources.values()]

    async def command(self, breaker_name: str, action: str) -> BreakerView:
        """Carry out an operator's ``force-open``, ``force-closed`` or ``reset``; `KeyError` for anything else."""
        breaker = self._breakers[breaker_name]
        commands = {"force-open": breaker.force_open, "force-closed": breaker.force_closed, "reset": breaker.reset}
        now = self._clock.now()
        transition = commands[action](now)
        if transition is not None:
            await self._publish([self._breaker_draft(transition), *self._moved(transition, now)])
        return breaker.view()

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

    # the loop

    async def restore(self, saved: Mapping[str, Mapping[str, SavedValue]]) -> None:
        """Publish the values that were read back from disk, by type and key, and the state of each breaker."""
        now = self._clock.now()
        drafts = []
        for breaker in self._breakers.values():
            first = breaker.initial()
            self._metrics.breaker_changed(first.breaker, first.state.value)
            drafts.append(self._breaker_draft(first))
        for source in self._sources.values():
            values = saved.get(source.type, {})
            value = _restored(values, keyed=source.plan.key is not None)
            if value is not None:
                as_of = max(kept.as_of for kept in values.values())
                view = self._breaker_view(source)
                drafts += source.freshness.restored(value, as_of=as_of, now=now, breaker=view).drafts
        await self._publish(drafts)

    async def run(self) -> None:
        """Poll until cancelled. Calls under way are cancelled too, and say nothing about the backend."""
        async with asyncio.TaskGroup() as exchanges:
            while True:
                await self._wait()
                now = self._clock.now()
                await self._publish(self._overdue(now))
                for group in self._due(now):
                    await self._begin(group, now, exchanges)

    def _enter_schedule(self, now: Instant) -> None:
        phases: dict[float, float] = {}
        for source in self._sources.values():
            interval_s = source.plan.spec.interval_s
            phase = phases.setdefault(interval_s, self._rng.random())
            self._schedule.add(source.type, interval_s=interval_s, phase=phase, now=now.mono)

    async def _wait(self) -> None:
        """Until something is due: a tick, a probe, or a value's age limit; or until `_woken`."""
        now = self._clock.now()
        times = [self._schedule.next_at]
        times += [breaker.retry_at_mono for name, breaker in self._breakers.items() if self._probing(name, now)]
        times += [source.freshness.due_review_at for source in self._sources.values()]
        wake_at = min((at for at in times if at is not None), default=None)
        try:
            async with asyncio.timeout(None if wake_at is None else max(0.0, wake_at - now.mono)):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def _due(self, now: Instant) -> list[list[_Source]]:
        """The sources whose tick or probe has come, in groups that share an exchange."""
        due: dict[str, list[_Source]] = {name: [] for name in self._breakers}
        for event_type in self._schedule.due(now.mono):
            source = self._sources[event_type]
            due[source.plan.breaker].append(source)
            self._set_idle(
                source, idle=source.plan.idle_interval_s is not None and not self._is_wanted(source), now=now
            )
        for name, breaker in self._breakers.items():
            if not due[name] and breaker.retry_at_mono is not None and breaker.retry_at_mono <= now.mono:
                due[name] = self._probing(name, now)
        if self._plan.batch:
            return [group for group in due.values() if group]
        return [[source] for group in due.values() for source in group]

    def _probing(self, breaker_name: str, now: Instant) -> list[_Source]:
        """The one source whose poll is the probe: of those that may be asked, the one asked the longest ago."""
        able = [
            source
            for source in self._sources.values()
            if source.plan.breaker == breaker_name and not source.in_flight and source.backs_off_until <= now.mono
        ]
        return [min(able, key=lambda source: source.last_sent)] if able else []

    async def _begin(self, group: Iterable[_Source], now: Instant, exchanges: asyncio.TaskGroup) -> None:
        """Start the exchange of a group, or say again what is stale where nothing is asked."""
        ready: list[_Source] = []
        held_back: list[_Source] = []
        for source in group:
            if source.in_flight:
                self._schedule.miss(source.type)
            self._tell_missed(source)
            (held_back if source.in_flight or now.mono < source.backs_off_until else ready).append(source)
        if ready:
            admission = self._breakers[ready[0].plan.breaker].permit(now)
            if isinstance(admission, Permit):
                if admission.transition is not None:
                    await self._publish(
                        [self._breaker_draft(admission.transition), *self._moved(admission.transition, now)]
                    )
                for source in ready:
                    source.in_flight = True
                exchanges.create_task(self._exchange(ready, admission), name=f"poll {self.name}")
            else:
                held_back += ready
        drafts = []
        for source in held_back:
            source.settled = source.settled or not source.in_flight
            if source.settled:
                drafts += source.freshness.repeat(now, self._breaker_view(source)).drafts
        await self._publish(drafts)

    def _tell_missed(self, source: _Source) -> None:
        """Count for the metrics what the schedule has counted since: ticks under a call, or under our own lateness."""
        missed = self._schedule.missed(source.type)
        if missed > source.missed_told:
            self._metrics.ticks_missed(source.type, missed - source.missed_told)
            source.missed_told = missed

    async def _exchange(self, group: Sequence[_Source], permit: Permit) -> None:
        """One call of one or more sources, from its permit to what it publishes."""
        breaker = self._breakers[group[0].plan.breaker]
        sent = self._clock.now()
        for source in group:
            source.requests += 1
            source.last_sent = sent.mono
        verdict, fault = Verdict.IGNORED, None
        came_from: frozenset[str] = frozenset()
        try:
            outcomes = await exchange(
                self._backend, self._plan, [source.plan for source in group], monotonic=self._monotonic
            )
            verdict, fault = batch_verdict(outcome for outcome, _ in outcomes)
            came_from = frozenset(
                source.type for source, (outcome, _) in zip(group, outcomes, strict=True) if outcome == fault
            )
        finally:
            now = self._clock.now()
            transition = breaker.record(
                permit, verdict, now=now, jitter=self._rng.random(), fault=fault, came_from=came_from
            )
            for source in group:
                source.in_flight = False
                source.settled = True
            self._woken.set()
        drafts = [] if transition is None else [self._breaker_draft(transition)]
        for source, (outcome, value) in zip(group, outcomes, strict=True):
            self._metrics.poll_ended(
                source.type, outcome.code if isinstance(outcome, Fault) else None, now.mono - sent.mono
            )
            drafts += self._settle(source, outcome, value, sent, now)
        if transition is not None:
            drafts += self._moved(transition, now, told=group)
        await self._publish(drafts)

    # what an exchange changes

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
        self._save(source, update, as_of=source.freshness.status(now, breaker).as_of or sent.wall)
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
        data = RpcError(
            backend=self.name,
            source=source.type,
            error_code=fault.code,
            message=fault.message,
            consecutive_failures=report.consecutive_failures,
            retry_at=None if breaker.retry_at is None else rfc3339(breaker.retry_at),
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
        self._metrics.breaker_changed(transition.breaker, transition.state.value)
        self._woken.set()
        others = [s for s in self._sources.values() if s.plan.breaker == transition.breaker and s not in told]
        if transition.state is State.CLOSED and not self._plan.batch:
            self._schedule.spread([source.type for source in others], now.mono, jitter=self._rng.random())
        return [draft for source in others for draft in source.freshness.review(now, self._breaker_view(source)).drafts]

    def _overdue(self, now: Instant) -> list[Draft]:
        """What time alone has made stale or expired."""
        drafts = []
        for source in self._sources.values():
            review_at = source.freshness.due_review_at
            if review_at is not None and review_at <= now.mono:
                drafts += source.freshness.review(now, self._breaker_view(source)).drafts
        return drafts

    async def _publish(self, drafts: Sequence[Draft]) -> None:
        if drafts:
            await self._gateway.publish(drafts)

    def _save(self, source: _Source, update: Update, *, as_of: float) -> None:
        """Keep what is new. The row of a keyed source without a key tells when its items were last seen."""
        if self._store is None:
            return
        items = source.freshness.items
        changed = {draft.key for draft in update.drafts if draft.type == source.type} if source.plan.key else {None}
        values = [SavedValue(source.type, key or "", bytes(items[key]), as_of) for key in changed if key in items]
        if source.plan.key:
            values.append(SavedValue(source.type, "", b"null", as_of))
        self._store.save(values, gone=[(draft.type, draft.key or "") for draft in update.drafts if draft.gone])

    # small things

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
        return self._breakers[source.plan.breaker].view()

    def _view(self, source: _Source, now: Instant) -> SourceView:
        status = source.freshness.status(now, self._breaker_view(source))
        next_due = max(self._schedule.next_due(source.type), source.backs_off_until)
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
            next_poll_at=now.wall + next_due - now.mono,
            missed_ticks=self._schedule.missed(source.type),
        )


def _restored(values: Mapping[str, SavedValue], *, keyed: bool) -> Value | None:
    """The saved value in the shape that the source has now; None if it was of the other."""
    if keyed:
        return {key: msgspec.Raw(value.data) for key, value in values.items() if key} or None
    return msgspec.Raw(values[""].data) if "" in values else None
