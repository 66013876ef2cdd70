"""One polled source: what is known of its data and of its calls, and what each outcome of a call brings about.

It owns the source's freshness, its error episodes, its back-off after a refused account, and whether it is being asked
now. What its breaker says comes as an argument, since that judges the backend. Who is asked when is decided in
`tidegate.core.lineup`; what a breaker's move means for other sources, in `tidegate.core.backend_state`.

Everything that something brings about is added to the `Decision` that is handed in.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Literal, Self

import msgspec

from tidegate.core.backend_plan import BackendPlan, SourcePlan
from tidegate.core.breaker import BreakerView, open_period_s
from tidegate.core.built_in import RpcError
from tidegate.core.decision import Decision, Note, Save, SavedValue
from tidegate.core.envelope import raw
from tidegate.core.episodes import CarriedReports, ErrorReports, Report
from tidegate.core.events import Draft
from tidegate.core.freshness import CarriedFreshness, Freshness, Told, Update, Value
from tidegate.core.instant import LONG_AGO, Instant, carried_time, resumed_time, rfc3339
from tidegate.core.measurements import PollEnded
from tidegate.core.outcome import Fault, Outcome
from tidegate.errors import ErrorCode

AT_DEADLINE_S = 0.02
"""A call whose deadline is no farther away is about to end, well or not: what that is will be said then, once."""

END_S = 0.25
"""How long the end of a call at its deadline is waited for. A backend that does not let itself be cancelled takes
longer."""

REQUESTS_SKIPPED = 1000
"""So many request numbers are left out when a source is resumed: whoever had it before may have used some since."""

_NEVER = float("inf")


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /api/v1/status` shows of a source, but for its times.

    A field that is added here and in `Source.view` is shown: the answer is made of these.

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


class CarriedSource(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state of a `Source`, as JSON can carry it: times are Unix seconds, None where there were none."""

    freshness: CarriedFreshness
    reports: CarriedReports
    requests: int
    attempted: bool
    idle: bool
    auth_refusals: int
    backs_off_until: float | None
    last_sent: float | None
    missed_told: int


class Source:
    """One source, while it is polled. `backend` is its backend's plan; with `keeps`, good values are to be saved."""

    __slots__ = (
        "_awaited_until",
        "_backend",
        "_deadline",
        "_freshness",
        "_keeps",
        "_reports",
        "_requests",
        "about",
        "attempted",
        "auth_refusals",
        "backs_off_until",
        "idle",
        "in_flight",
        "last_sent",
        "missed_told",
        "plan",
        "type",
    )

    def __init__(self, plan: SourcePlan, backend: BackendPlan, *, keeps: bool) -> None:
        self.plan = plan
        self.type = plan.spec.type
        self.about = frozenset({plan.spec.type})
        self.in_flight = False
        """Whether it waits for a place, or is being asked."""
        self.attempted = False
        """Whether its first attempt has ended, well or not."""
        self.idle = False
        """Whether it is asked at its idle interval."""
        self.auth_refusals = 0
        self.backs_off_until = LONG_AGO
        self.last_sent = LONG_AGO
        self.missed_told = 0
        self._backend = backend
        self._keeps = keeps
        self._freshness = Freshness(plan.spec)
        self._reports = ErrorReports(backend.rpc_error_interval_s)
        self._requests = 0
        self._deadline = _NEVER
        self._awaited_until: float | None = None

    @classmethod
    def resumed(
        cls, plan: SourcePlan, backend: BackendPlan, carried: CarriedSource, *, keeps: bool, now: Instant
    ) -> Self:
        """Go on where `carried` left off. A call that was under way then is not known here."""
        resumed = cls(plan, backend, keeps=keeps)
        resumed._freshness = Freshness.resumed(plan.spec, carried.freshness, now=now)
        resumed._reports = ErrorReports.resumed(backend.rpc_error_interval_s, carried.reports, now=now)
        resumed._requests = carried.requests + REQUESTS_SKIPPED
        resumed.attempted = carried.attempted
        resumed.idle = carried.idle
        resumed.auth_refusals = carried.auth_refusals
        resumed.backs_off_until = resumed_time(carried.backs_off_until, now)
        resumed.last_sent = resumed_time(carried.last_sent, now)
        resumed.missed_told = carried.missed_told
        return resumed

    def carried(self, now: Instant) -> CarriedSource:
        """The whole state at `now`, but for a call under way."""
        return CarriedSource(
            freshness=self._freshness.carried(now),
            reports=self._reports.carried(now),
            requests=self._requests,
            attempted=self.attempted,
            idle=self.idle,
            auth_refusals=self.auth_refusals,
            backs_off_until=carried_time(self.backs_off_until, now),
            last_sent=carried_time(self.last_sent, now),
            missed_told=self.missed_told,
        )

    # what may be asked

    @property
    def interval_s(self) -> float:
        """The interval at which it is asked now."""
        idle_s = self.plan.idle_interval_s
        return idle_s if self.idle and idle_s is not None else self.plan.spec.interval_s

    @property
    def review_at(self) -> float | None:
        """When age alone makes what was said last untrue, unless the end of its call is about to say so."""
        due = self._freshness.due_review_at
        return due if due is None or self._awaited_until is None else max(due, self._awaited_until)

    def may_be_asked(self, now: Instant) -> bool:
        """Whether nothing of its own keeps it from being asked: a turn that it has already, or a refused account."""
        return not self.in_flight and self.backs_off_until <= now.mono

    def is_at_deadline(self, now: Instant) -> bool:
        """Whether its call has had its time: how that ends will say what there is to say."""
        return now.mono >= self._deadline

    def restated(self, draft: Draft, now: Instant, breaker: BreakerView) -> Draft:
        """What a retained `draft` of this source has to say at `now`. See `Freshness.restated`."""
        return self._freshness.restated(draft, now, breaker)

    def view(self, now: Instant, breaker: BreakerView, *, next_poll_at: float, missed_ticks: int) -> SourceView:
        """The source as it is shown; `next_poll_at` in Unix seconds."""
        status = self._freshness.status(now, breaker)
        return SourceView(
            type=self.type,
            backend=self._backend.name,
            interval_s=self.interval_s,
            max_age_s=self._freshness.max_age_s,
            on_change=self.plan.spec.on_change,
            stale=status.stale,
            error_code=status.error_code,
            missed_ticks=missed_ticks,
            as_of=status.as_of,
            next_poll_at=next_poll_at,
        )

    # what happens to it

    def restore(self, values: Mapping[str, SavedValue], *, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Its values were read back from disk, by key: they are published as stale until the backend answers."""
        value = _restored(values, keyed=self.plan.key is not None)
        if value is None:
            return
        as_of = _restored_as_of(values)
        self._say(self._freshness.restored(value, as_of=as_of, now=now, breaker=breaker), into)
        if as_of > now.wall:
            self.save(now, breaker, into)

    def set_idle(self, idle: bool) -> bool:
        """Ask at the idle interval from now on, or no longer; whether that is a change."""
        if self.idle == idle:
            return False
        self.idle = idle
        self._freshness.set_interval(self.interval_s)
        return True

    def sent(self, now: Instant) -> None:
        """A call of it begins."""
        self.last_sent = now.mono
        self._deadline = now.mono + self._backend.timeout_s

    def is_back(self) -> None:
        """Its turn is over, or was taken from it: it may be asked again."""
        self.in_flight = False
        self._deadline = _NEVER
        self._awaited_until = None

    def ended(
        self,
        outcome: Outcome,
        value: Value | None,
        *,
        sent: Instant,
        now: Instant,
        breaker: BreakerView,
        draw: Callable[[], float],
        into: Decision,
    ) -> None:
        """Its call, which was sent at `sent`, came to `outcome`: an answer comes with its `value`.

        `breaker` has heard of it already. `draw` gives a number in [0, 1) where chance is needed.
        """
        self._requests += 1
        self.attempted = True
        code = outcome.code if isinstance(outcome, Fault) else None
        into.measurements.append(PollEnded(self.type, code, now.mono - sent.mono))
        if isinstance(outcome, Fault):
            self._back_off(outcome, now, draw)
            update = self._freshness.failed(self._requests, code=outcome.code, now=now, breaker=breaker)
            self._say(update, into)
            self._report(outcome, now, breaker, into)
            return
        assert value is not None, "an answer has a value"
        self.auth_refusals = 0
        self._recover(now, into)
        update = self._freshness.answered(self._requests, sent=sent, value=value, now=now, breaker=breaker)
        self._say(update, into)
        if self._keeps:
            drafts = [draft for draft in update.drafts if draft.type == self.type]
            changed = {draft.key for draft in drafts} if self.plan.key else {None}
            self._save(changed, [draft.key for draft in drafts if draft.gone], now, breaker, into)

    def repeat(self, now: Instant, breaker: BreakerView, into: Decision, *, only_news: bool = False) -> None:
        """A due tick on which it is not asked, or is being asked; with `only_news`, nothing is said again."""
        self.attempted = self.attempted or not self.in_flight
        if self.attempted and not self._awaits_end(now):
            said = self._freshness
            self._say(said.review(now, breaker) if only_news else said.repeat(now, breaker), into)

    def review(self, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Its breaker moved: say what that changes."""
        self._say(self._freshness.review(now, breaker), into)

    def review_age(self, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Say what time alone has made stale or expired, if anything."""
        at = self.review_at
        if at is not None and at <= now.mono and not self._awaits_end(now):
            self._say(self._freshness.review(now, breaker), into)

    def restate(self, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Say what differs from what was told, unless the end of its call is about to. See `Freshness.restate`."""
        if not self._awaits_end(now):
            self._say(self._freshness.restate(now, breaker), into)

    def save(self, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Keep all that it holds, with its `as_of` as the wall clock tells that now."""
        if self._keeps:
            self._save(self._freshness.items, (), now, breaker, into)

    # what became of what it said

    def taken(self, told: Told) -> None:
        """The bus took over what says `told`."""
        self._freshness.taken(told)

    def refused(self) -> None:
        """The bus did not take over what this source said last. Call `restate` later."""
        self._freshness.refused()

    def report_refused(self, report: Report) -> None:
        """The bus did not take over a `rpc_error`."""
        self._reports.refused(report)

    def _awaits_end(self, now: Instant) -> bool:
        """Whether its call is at its deadline, so that its end is about to say what is to be said of it."""
        if now.mono < self._deadline - AT_DEADLINE_S:
            return False
        if self._awaited_until is None:
            self._awaited_until = now.mono + END_S
        return now.mono < self._awaited_until

    def _say(self, update: Update, into: Decision) -> None:
        if update.told is not None:
            into.drafts += update.drafts
            into.told[self.type] = update.told
        if update.as_of is not None:
            into.refreshed[self.type] = update.as_of

    def _back_off(self, fault: Fault, now: Instant, draw: Callable[[], float]) -> None:
        """An account that is refused is asked less and less, so that nobody locks it."""
        if fault.code is ErrorCode.RPC_AUTH:
            self.auth_refusals += 1
            rules = self._backend.breaker
            self.backs_off_until = now.mono + open_period_s(
                self.auth_refusals, open_s=rules.open_s, open_max_s=rules.open_max_s, jitter=draw()
            )

    def _report(self, fault: Fault, now: Instant, breaker: BreakerView, into: Decision) -> None:
        report = self._reports.failed(now.mono, fault)
        if report is None:
            return
        if report.consecutive_failures == 1:
            fields = {"error_code": fault.code.value, "error": fault.message, "breaker": breaker.state.value}
            into.notes.append(self._note("warning", "source failing", **fields))
        retry_at = breaker.next_try_at(now)
        data = RpcError(
            backend=self._backend.name,
            source=self.type,
            error_code=fault.code,
            message=fault.message,
            consecutive_failures=report.consecutive_failures,
            retry_at=None if retry_at is None else rfc3339(retry_at),
            suppressed=report.suppressed,
        )
        into.drafts.append(Draft(type="rpc_error", data=raw(data), about=self.about))
        into.reports.append((self.type, report))

    def _recover(self, now: Instant, into: Decision) -> None:
        recovery = self._reports.recovered(now.mono)
        if recovery is not None:
            fields = {"failures": recovery.failures, "after_s": round(recovery.duration_s, 3)}
            into.notes.append(self._note("info", "source recovered", **fields))

    def _note(self, level: Literal["info", "warning"], event: str, **fields: object) -> Note:
        return Note(level, event, {"source": self.type, "backend": self._backend.name, **fields})

    def _save(
        self,
        keys: Collection[str | None],
        gone: Collection[str | None],
        now: Instant,
        breaker: BreakerView,
        into: Decision,
    ) -> None:
        """Keep the values of `keys`. The row of a keyed source without a key tells when its items were last seen."""
        as_of = self._freshness.status(now, breaker).as_of
        if as_of is None:
            return
        items = self._freshness.items
        values = [SavedValue(self.type, key or "", bytes(items[key]), as_of) for key in keys if key in items]
        if self.plan.key:
            values.append(SavedValue(self.type, "", b"null", as_of))
        into.saves.append(Save(values, [(self.type, key or "") for key in gone]))


def _restored(values: Mapping[str, SavedValue], *, keyed: bool) -> Value | None:
    """The saved value in the shape that the source has now; None if it was of the other."""
    if keyed:
        return {key: msgspec.Raw(value.data) for key, value in values.items() if key} or None
    return msgspec.Raw(values[""].data) if "" in values else None


def _restored_as_of(values: Mapping[str, SavedValue]) -> float:
    """When the saved value was last seen: the row without a key tells, which is written with each answer."""
    return values[""].as_of if "" in values else max(value.as_of for value in values.values())
