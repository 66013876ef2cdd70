"""One polled source: what is known of its data and its calls, and what each end of a call brings about.

It owns the source's freshness, its error episodes, its back-off after a refused account, and whether it is being asked
now. Its breaker judges the whole backend, so the breaker's view comes as an argument. Which source is asked when is
decided in `lineup`; what a breaker's move means for other sources, in `backend_state`.

Every method adds what it brings about to the `Decision` that it is given.
"""

from collections.abc import Callable, Mapping

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.measurements import PollEnded
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.carried import CarriedSource
from tidegate.core.polling.decision import Decision, SavedValue
from tidegate.core.polling.drafts import error_draft
from tidegate.core.polling.episodes import ErrorReports, Report
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.outcome import Fault, Outcome
from tidegate.core.polling.saving import changes, forgotten, saved_as_of, saved_value, to_save
from tidegate.core.polling.source_calls import SourceCalls
from tidegate.core.polling.source_values import FreshnessStatus, Keys, Told, Update, Value
from tidegate.core.polling.staleness import Staleness
from tidegate.errors import ErrorCode


class Source:
    """One source, while it is polled. `backend` is its backend's plan. With `keeps`, good values are saved to disk."""

    __slots__ = (
        "_backend",
        "_freshness",
        "_keeps",
        "_reports",
        "_requests",
        "about",
        "attempted",
        "calls",
        "idle",
        "missed_counted",
        "plan",
        "staleness",
        "type",
    )

    def __init__(
        self,
        plan: SourcePlan,
        backend: BackendPlan,
        *,
        keeps: bool,
        now: Instant,
        freshness: Freshness | None = None,
        reports: ErrorReports | None = None,
        requests: int = 0,
    ) -> None:
        self.plan = plan
        self.type = plan.spec.type
        self.about = frozenset({plan.spec.type})
        self.calls = SourceCalls()
        self.attempted = False
        """Whether its first attempt has ended, successful or not, or it was due and could not be asked."""
        self.idle = False
        """Whether it is asked at its idle interval."""
        self.missed_counted = 0
        """How many of its missed ticks were measured."""
        self._backend = backend
        self._keeps = keeps
        self._freshness = freshness or Freshness(plan.spec)
        self._reports = reports or ErrorReports(backend.rpc_error_interval_s)
        self._requests = requests
        self.staleness = Staleness(now)

    def carried(self, now: Instant) -> CarriedSource:
        """The whole state at `now`, except a call under way."""
        return CarriedSource(
            freshness=self._freshness.carried(now),
            reports=self._reports.carried(now),
            requests=self._requests,
            attempted=self.attempted,
            idle=self.idle,
            calls=self.calls.carried(now),
            missed_counted=self.missed_counted,
        )

    # another configuration

    def follow(self, plan: SourcePlan, backend: BackendPlan) -> None:
        """Be polled by another `plan` for the same value from now on. Call `publish_changes` next."""
        before, self.plan, self._backend = self.plan, plan, backend
        self._reports.follow(backend.rpc_error_interval_s)
        self.idle = self.idle and plan.idle_interval_s is not None
        if (before.spec, before.idle_interval_s) != (plan.spec, plan.idle_interval_s):
            self._freshness.follow(plan.spec, self.interval_s)

    def successor(self, plan: SourcePlan, backend: BackendPlan, now: Instant) -> "Source":
        """Return the source that takes its place, for another value of the same type. See `Freshness.followed_by`."""
        self._reports.follow(backend.rpc_error_interval_s)
        freshness = self._freshness.followed_by(plan.spec)
        return Source(plan, backend, keeps=self._keeps, now=now, freshness=freshness, reports=self._reports)

    def forget_saved(self, into: Decision) -> None:
        """Delete what is saved of it."""
        if self._keeps:
            into.saves.append(forgotten(self.plan.spec, self._freshness.items))

    @property
    def freshness(self) -> Freshness:
        """What is known of its data. Ask it what you like; only this source tells it anything."""
        return self._freshness

    # what may be asked

    @property
    def interval_s(self) -> float:
        """The interval at which it is asked now, in seconds."""
        idle_s = self.plan.idle_interval_s
        return idle_s if self.idle and idle_s is not None else self.plan.spec.interval_s

    @property
    def check_age_at(self) -> float | None:
        """Monotonic time at which age alone makes what was said untrue, or later while it waits for its call to end."""
        due = self._freshness.untrue_at
        wait_until = self.calls.end.wait_until
        return due if due is None or wait_until is None else max(due, wait_until)

    @property
    def failures(self) -> int:
        """Its failed calls in a row."""
        return self._reports.consecutive_failures

    @property
    def failure(self) -> ErrorCode | None:
        """The error that its newest call ended with, if any."""
        return self._freshness.failure

    @property
    def answered_at(self) -> float:
        """Monotonic time at which its value was asked for; `LONG_AGO` if there is none."""
        return self._freshness.sent_at

    def corrected_for_age(self, draft: Draft, now: Instant, breaker: BreakerView) -> Draft:
        """Return what a retained `draft` of this source has to say at `now`. See `Freshness.corrected_for_age`."""
        return self._freshness.corrected_for_age(draft, now, breaker)

    # what happens to it

    def note_verdict(self, now: Instant, breaker: BreakerView) -> FreshnessStatus:
        """The verdict on its data may have changed, other than by age. Note it in `staleness`, and return it."""
        status = self._freshness.status(now, breaker)
        self.staleness.note(now, None if status.stale else self._freshness.fresh_until)
        return status

    def load_saved(self, rows: Mapping[str, SavedValue], *, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Publish the values of `rows`, by key, read from disk. They are stale until the backend answers."""
        value = saved_value(rows, keyed=self.plan.shape.items is not None)
        if value is None:
            return
        as_of = saved_as_of(rows)
        self._publish(self._freshness.load_saved(value, as_of=as_of, now=now, breaker=breaker), into)
        if as_of > now.wall:  # the clock was wrong when they were saved: what is on disk would stay wrong
            self.save(now, breaker, into)

    def set_idle(self, idle: bool) -> bool:
        """Ask at the idle interval from now on, or no longer. Return whether that is a change."""
        if self.idle == idle:
            return False
        self.idle = idle
        self._freshness.set_interval(self.interval_s)
        return True

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
        at_tick: bool = True,
        secret: bytes | None = None,
    ) -> None:
        """Its call, which was sent at `sent`, ended with `outcome`. An answer comes with its `value`.

        `breaker` is the view after the outcome was recorded. `draw` returns a random number in [0, 1). `at_tick` is
        whether the call was made because a tick was due, and `secret` what it authenticated with.
        """
        self._requests += 1
        self.attempted = True
        code = outcome.code if isinstance(outcome, Fault) else None
        into.measurements.append(PollEnded(self.type, self._backend.name, code, now.mono - sent.mono))
        self.calls.failed_alone = isinstance(outcome, Fault) and breaker.is_closed
        if isinstance(outcome, Fault):
            if outcome.code is ErrorCode.RPC_AUTH:
                self.calls.refused(secret, now, draw)
            code, at_tick = outcome.code, at_tick or self.calls.speaks_for_tick
            update = self._freshness.failed(self._requests, code=code, now=now, breaker=breaker, at_tick=at_tick)
            self._publish(update, into)
            self._report(outcome, now, breaker, into)
            return
        assert value is not None, "an answer has a value"
        self.calls.refusals = 0
        self._reports.recovered(now.mono)
        saved = None if self._freshness.has_said_items else self._freshness.items
        update = self._freshness.answered(
            self._requests, sent=sent, value=value, now=now, breaker=breaker, ignore=self.plan.shape.ignore
        )
        self._publish(update, into)
        if self._keeps:
            changed, gone = changes(update, self.plan.spec, saved, self._freshness.items)
            self._save(changed, gone, now, breaker, into)

    def not_asked(self, now: Instant, breaker: BreakerView, into: Decision, *, only_news: bool = False) -> None:
        """It was due, but is not asked now, or is still being asked. With `only_news`, nothing is repeated."""
        self.attempted = self.attempted or not self.calls.in_flight
        if not self.attempted:
            return
        if self._wait_for_end(now):
            self.calls.speaks_for_tick |= not only_news
        else:
            says = self._freshness.publish_changes if only_news else self._freshness.not_asked
            self._publish(says(now, breaker), into)

    def publish_changes(self, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Its breaker moved: publish what that changes for its data."""
        self._publish(self._freshness.publish_changes(now, breaker), into)

    def check_age(self, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Publish what time alone has made stale or expired. Call it from `check_age_at` on."""
        if not self._wait_for_end(now):
            self._publish(self._freshness.publish_changes(now, breaker), into)

    def publish_owed(self, now: Instant, breaker: BreakerView, into: Decision) -> float | None:
        """Publish what differs from what was told, unless the end of its call is about to: return until when it waits.

        That is monotonic. Call it again then.
        """
        if self._wait_for_end(now):
            return self.calls.end.wait_until
        self._publish(self._freshness.publish_owed(now, breaker), into)
        return None

    def save(self, now: Instant, breaker: BreakerView, into: Decision) -> None:
        """Save all its values, with their `as_of` by the present wall clock."""
        if self._keeps:
            self._save(self._freshness.items, (), now, breaker, into)

    # what became of what it said

    def taken(self, told: Told) -> None:
        """The bus has published events that say `told`."""
        self._freshness.taken(told)

    def refused(self) -> None:
        """The bus refused what this source said last. Call `publish_owed` later."""
        self._freshness.refused()

    def forget_told(self) -> None:
        """Another epoch has begun, in which no verdict was told. Call `publish_owed` then."""
        self._freshness.forget_told()

    def report_refused(self, report: Report) -> None:
        """The bus refused an `rpc_error`."""
        self._reports.refused(report)

    def _wait_for_end(self, now: Instant) -> bool:
        """Wait for the end of its call if that is about to say what there is to say. Return whether it waits."""
        return self.calls.end.wait_at_deadline(now)

    def _publish(self, update: Update, into: Decision) -> None:
        if update.told is not None:
            into.drafts += update.drafts
            into.told[self.type] = update.told
        if update.as_of is not None:
            into.refreshed[self.type] = update.as_of

    def _report(self, fault: Fault, now: Instant, breaker: BreakerView, into: Decision) -> None:
        report = self._reports.failed(now.mono, fault)
        if report is None:
            return
        into.drafts.append(error_draft(self._backend.name, self.type, self.about, report, now, breaker))
        into.reports.append((self.type, report))

    def _save(self, keys: Keys, gone: Keys, now: Instant, breaker: BreakerView, into: Decision) -> None:
        as_of = self._freshness.status(now, breaker).as_of
        if as_of is not None:
            into.saves.append(to_save(self.plan.spec, self._freshness.items, keys=keys, gone=gone, as_of=as_of))
