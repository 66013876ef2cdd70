"""The circuit breaker of one backend: when it opens, when it lets a probe through, and when it closes.

Ask `permit` before a call, and tell its end to `record` after it. A permit carries the generation in which it was
given, so a call that ends after the breaker has moved on does not count. A transition is returned, never called back:
the caller publishes it.

A hold is the backend's own request to be left alone (``Retry-After``). It is not a state: whatever its state is, a
breaker admits no call before the hold ends. The caller tells every breaker of the backend about a hold, before it
records the outcome that brought it.

A knock finds out whether the backend can be reached, without a call. While the newest outcome is that it could not be,
`knocks_from_mono` says from when a knock may bring the probe forward. See `tidegate.core.polling.knocking`.

Decisions use monotonic time; wall time is only shown. Knows nothing of sources, data or events. What a breaker
remembers is in `breaker_data`, what others see of it in `breaker_values`.
"""

from typing import Self

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker_data import BreakerData
from tidegate.core.polling.breaker_runs import Episode, Run
from tidegate.core.polling.breaker_values import (
    BreakerRules,
    BreakerView,
    Mode,
    Reason,
    State,
    Transition,
    open_period_s,
)
from tidegate.core.polling.carried import CarriedBreaker
from tidegate.core.polling.counting import Counting
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import NoPermit, Permit, ProbeOut
from tidegate.core.polling.poking import Poke
from tidegate.errors import ErrorCode


class Breaker:
    """One breaker. Owned by one event loop; nothing in it waits, calls out or raises."""

    def __init__(self, name: str, config: BreakerRules, *, now: Instant, data: BreakerData | None = None) -> None:
        self.name = name
        self.late_results = 0
        """Outcomes of calls that an earlier generation admitted, or of probes that had lost their place."""
        self._config = config
        self._data = data or BreakerData(name, config, now=now)
        self._counting = Counting(self._data, config)
        self._probe, self._poke = ProbeOut(), Poke()
        self._before_knock: Instant | None = None  # `retry_at`, while half-open because of a knock
        self.was_held = False  # when it was open last: the backend had asked to be left alone

    @classmethod
    def from_carried(cls, name: str, config: BreakerRules, carried: CarriedBreaker, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off.

        A probe that was out then is not known here: the next one may go at once.
        """
        return cls(name, config, now=now, data=BreakerData.from_carried(name, config, carried, now=now))

    def carried(self, now: Instant) -> CarriedBreaker:
        """The whole state at `now`, except the calls under way."""
        return self._data.carried(now)

    def follow(self, config: BreakerRules) -> None:
        """Follow other rules from now on. State, counts, and times that were set before stay."""
        self._config = config
        self._data.window.span_s = config.rate_window_s
        self._counting = Counting(self._data, config)

    def initial(self, reason: Reason = Reason.START) -> Transition:
        """The first transition to publish, in an epoch or after a reload: from nothing to its state."""
        return self._data.first(reason)

    @property
    def is_closed(self) -> bool:
        """Whether it is closed, of its own accord or forced by an operator. A hold may still refuse calls."""
        return self._data.mode.shown is State.CLOSED

    @property
    def retry_at_mono(self) -> float | None:
        """Monotonic time from which a probe is admitted; None unless open of its own accord."""
        retry_at = self._data.probe_admitted_at
        return None if retry_at is None else retry_at.mono

    @property
    def probe_at_mono(self) -> float | None:
        """Monotonic time from which the next probe is wanted; None while closed, or forced open by an operator.

        While half-open that is at once, or when the probe that is out loses its place. The time may have passed.
        """
        match self._data.mode:
            case Mode.OPEN:
                return self._data.since.mono if self._poke.counts else self.retry_at_mono
            case Mode.HALF_OPEN:
                held_until = LONG_AGO if self._data.held_until is None else self._data.held_until.mono
                return max(self._data.since.mono, self._probe.expires_mono, held_until)
            case _:
                return None

    @property
    def generation(self) -> int:
        """Grows with each move. What was begun in an earlier generation no longer counts."""
        return self._data.generation

    @property
    def episode(self) -> Episode | None:
        """The episode of its openings, while it is not closed."""
        return self._data.episode

    def knocks_from_mono(self, now: Instant) -> float | None:
        """Monotonic time from which a connection that can be made lets the probe go at once; None if never now.

        That is so while it is open of its own accord, not held, and the newest outcome was unreachable.
        """
        return self._data.knocks_from_mono(now)

    @property
    def run(self) -> Run:
        """What is known of the current run of failures."""
        return self._data.run

    @property
    def wants_witness(self) -> bool:
        """Whether it is time to ask another source, since all failures of the run are one source's."""
        return self.is_closed and self._counting.wants_witness

    def view(self) -> BreakerView:
        return self._data.view(self._config)

    def follow_clock(self, now: Instant) -> None:
        """If the wall clock was set, move the times that `view` shows. Nothing else changes."""
        self._data.follow_clock(now)

    def refusal(self, now: Instant, *, reached: bool = False) -> NoPermit | None:
        """Return what `permit` would refuse a call with at `now`; None if it would admit one."""
        match self._data.mode:
            case Mode.OPEN:
                admits = self._why_admitted(now, reached) is not None
            case Mode.HALF_OPEN:
                admits = self._probe.live(now) is None
            case mode:
                admits = mode is not Mode.FORCED_OPEN
        return None if admits and not self._data.is_held(now) else NoPermit(self.view().next_try_at(now))

    def permit(self, now: Instant, *, timeout_s: float, reached: bool = False) -> Permit | NoPermit:
        """Ask to make one call now, which ends within `timeout_s`. Record every `Permit`.

        A probe that is not recorded blocks the next for a while. `reached`: a knock has just found a connection.
        """
        refused = self.refusal(now, reached=reached)
        if refused is not None:
            return refused
        match self._data.mode:
            case Mode.OPEN:
                reason = self._why_admitted(now, reached) or Reason.RETRY_DUE
                opened, retry_at = self._data.since, self._data.retry_at
                half_open = self._enter(Mode.HALF_OPEN, reason, now, cause=self._data.cause)
                self._before_knock = retry_at if reason is Reason.REACHABLE else None
                self.was_held = self._data.held_until is not None and self._data.held_until.mono > opened.mono
                return self._probe.begin(Permit(self._data.generation, half_open), now, timeout_s=timeout_s)
            case Mode.HALF_OPEN:
                return self._probe.begin(Permit(self._data.generation), now, timeout_s=timeout_s)
            case _:
                self._counting.heal(now)
                return Permit(self._data.generation)

    def is_held(self, now: Instant) -> bool:
        """Whether the backend has asked for no call at `now`."""
        return self._data.is_held(now)

    def hold(self, until: Instant) -> None:
        """The backend asks for no call before `until`. An earlier hold that ends later stays as it is.

        If the breaker is open and the hold ends later than its open period, the end of the hold becomes its
        `retry_at`, without a transition.
        """
        self._poke.end()
        if self._data.held_until is None or until.mono > self._data.held_until.mono:
            self._data.held_until = until

    def poke(self, now: Instant) -> bool:
        """Let the probe go now, at most once in `poking.POKE_EVERY_S`. Return whether that changes anything."""
        if self._data.mode is Mode.OPEN and not self._data.is_held(now):
            self._poke.give(now)
        return self._poke.counts

    def release(self) -> None:
        """End the hold: an operator gave a command to this or another breaker of the backend."""
        self._data.held_until, self.was_held = None, False

    def record(
        self,
        permit: Permit,
        verdict: Verdict,
        *,
        now: Instant,
        jitter: float,
        fault: Fault | None = None,
        came_from: frozenset[str] = frozenset(),
        failed: frozenset[str] = frozenset(),
        repeats: bool = False,
    ) -> Transition | None:
        """Record the end of the call that `permit` admitted. Return the transition that it caused, if any.

        `fault` says why the call failed, and `came_from` for which sources; `failed` are those for which it failed for
        any reason. `jitter`, in [0, 1), is used if this opens the breaker. A permit counts once, and only in the
        generation in which it was given. With `repeats`, this repeated a failed call, and the breaker has other
        sources: it is not counted while only one source fails. As soon as another one does, all of the run counts.
        """
        if permit.recorded:
            return None
        permit.recorded = True
        if not self._counts(permit, now):
            self.late_results += 1
            return None
        self._probe.end()
        failed |= came_from
        match self._counting.count(verdict, fault, came_from=came_from, failed=failed, repeats=repeats, now=now):
            case None:
                return None
            case Reason.PROBE_SUCCEEDED as reason:
                return self._enter(Mode.CLOSED, reason, now)
            case reason:
                return self._open(reason, now, jitter, fault.code if fault else None)

    def force_open(self, now: Instant) -> Transition | None:
        """Refuse every call until `reset`. None if it is forced open already."""
        if self._data.mode is Mode.FORCED_OPEN:
            return None
        return self._enter(Mode.FORCED_OPEN, Reason.FORCE_OPEN, now)

    def force_closed(self, now: Instant) -> Transition | None:
        """Admit every call until `reset`, however calls end, and end the hold. None if it is forced closed already.

        If the backend asks to be left alone after this, that is a new hold.
        """
        self.release()
        is_forced = self._data.mode is Mode.FORCED_CLOSED
        return None if is_forced else self._enter(Mode.FORCED_CLOSED, Reason.FORCE_CLOSED, now)

    def reset(self, now: Instant) -> Transition:
        """Close, forget every count, and end an override and a hold. Calls under way no longer count."""
        self.release()
        self._data.forget_counts()
        return self._enter(Mode.CLOSED, Reason.RESET, now)

    def restart(self, now: Instant, *, is_other_service: bool) -> Transition:
        """The backend is called in another session: as `reset`, but an override stays, and the same one's hold."""
        if is_other_service:
            self.release()
        self._data.forget_counts()
        return self._enter(self._data.mode if self._data.mode.forced else Mode.CLOSED, Reason.RELOAD, now)

    def _counts(self, permit: Permit, now: Instant) -> bool:
        if permit.generation != self._data.generation:
            return False
        # A probe past its deadline has lost its place, so another one may be out: only that one decides.
        return self._data.mode is not Mode.HALF_OPEN or permit is self._probe.live(now)

    def _why_admitted(self, now: Instant, reached: bool) -> Reason | None:
        """Why a probe is admitted now, while open; None if it is not."""
        knocks_from = self._data.knocks_from_mono(now) if reached else None
        if self._data.retry_at is not None and now.mono >= self._data.retry_at.mono:
            return Reason.RETRY_DUE
        if self._poke.counts:
            return Reason.POKE
        return Reason.REACHABLE if knocks_from is not None and now.mono >= knocks_from else None

    def _open(self, reason: Reason, now: Instant, jitter: float, cause: ErrorCode | None) -> Transition:
        config, data = self._config, self._data
        if data.mode is Mode.CLOSED:
            data.episode = Episode.after(data.episode, now, open_max_s=config.open_max_s, jitter=jitter)
        elif data.episode is not None and not data.unreachable:
            data.episode = data.episode.with_fruitless(0)
        elif data.episode is not None and self._before_knock is not None:
            # A connection could be made, but the probe found none: that is no news.
            data.episode = data.episode.with_fruitless(data.episode.fruitless + 1)
            return self._enter(Mode.OPEN, reason, now, retry_at=self._before_knock.seen_at(now), cause=cause)
        data.openings += 1
        period = open_period_s(data.openings, open_s=config.open_s, open_max_s=config.open_max_s, jitter=jitter)
        retry_at = Instant(now.mono + period, now.wall + period)
        return self._enter(Mode.OPEN, reason, now, retry_at=retry_at, cause=cause)

    def _enter(
        self,
        mode: Mode,
        reason: Reason,
        now: Instant,
        *,
        retry_at: Instant | None = None,
        cause: ErrorCode | None = None,
    ) -> Transition:
        """The only place where the breaker moves."""
        # The next generation: a probe that is still out belongs to the one before, and no longer counts.
        self._probe.end()
        self._before_knock = None
        self._poke.end()
        return self._data.enter(mode, reason, now, retry_at=retry_at, cause=cause)
