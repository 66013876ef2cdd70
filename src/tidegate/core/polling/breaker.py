"""The circuit breaker of one backend: when it opens, when it lets a probe through, and when it closes.

Ask `permit` before a call, and tell its end to `record` after it. A permit carries the generation in which it was
given, so a call that ends after the breaker has moved on does not count. A transition is returned, never called back:
the caller publishes it.

A hold is the backend's own request to be left alone (``Retry-After``). It is not a state: whatever its state is, a
breaker admits no call before the hold ends. The caller tells every breaker of the backend about a hold, before it
records the outcome that brought it.

Decisions use monotonic time; wall time is only shown. Knows nothing of sources, data or events. What a breaker
remembers is in `tidegate.core.polling.breaker_data`, what others see of it in `tidegate.core.polling.breaker_values`.
"""

from typing import Self

import msgspec

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_data import BreakerData
from tidegate.core.polling.breaker_values import (
    BreakerRules,
    BreakerView,
    LastFailure,
    Mode,
    Reason,
    State,
    Transition,
    open_period_s,
)
from tidegate.core.polling.carried import CarriedBreaker
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.errors import ErrorCode


class Permit:
    """The right to make one call. Give it to `Breaker.record` once, however the call ends.

    `transition` is set on the probe that moved the breaker to half-open.
    """

    __slots__ = ("generation", "recorded", "transition")

    def __init__(self, generation: int, transition: Transition | None = None) -> None:
        self.generation = generation
        self.recorded = False
        self.transition = transition


class NoPermit(msgspec.Struct, frozen=True):
    """No call now. `retry_at` is in Unix seconds, and not before the end of a hold.

    None while a probe is out or the breaker is forced open.
    """

    retry_at: float | None


class Breaker:
    """One breaker. Owned by one event loop; nothing in it waits, calls out or raises."""

    def __init__(self, name: str, config: BreakerRules, *, now: Instant) -> None:
        self.name = name
        self.late_results = 0
        """Outcomes of calls that an earlier generation admitted, or of probes that had lost their place."""
        self._config = config
        self._data = BreakerData(name, config, now=now)
        self._probe: Permit | None = None
        self._probe_expires: float  # of the probe

    @classmethod
    def from_carried(cls, name: str, config: BreakerRules, carried: CarriedBreaker, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off.

        A probe that was out then is not known here: the next one may go at once.
        """
        resumed = cls(name, config, now=now)
        resumed._data = BreakerData.from_carried(name, config, carried, now=now)
        return resumed

    def carried(self, now: Instant) -> CarriedBreaker:
        """The whole state at `now`, except the calls under way."""
        return self._data.carried(now)

    def initial(self) -> Transition:
        """The first transition to publish in an epoch: from nothing to the state that the breaker is in."""
        return self._data.transition(None, Reason.START)

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
                return self.retry_at_mono
            case Mode.HALF_OPEN:
                free_at = self._data.since.mono if self._probe is None else self._probe_expires
                return free_at if self._data.held_until is None else max(free_at, self._data.held_until.mono)
            case _:
                return None

    def view(self) -> BreakerView:
        return self._data.view()

    def follow_clock(self, now: Instant) -> None:
        """If the wall clock was set, move the times that `view` shows. Nothing else changes."""
        self._data.follow_clock(now)

    def refusal(self, now: Instant) -> NoPermit | None:
        """Return what `permit` would refuse a call with at `now`; None if it would admit one. Changes nothing."""
        match self._data.mode:
            case Mode.OPEN if self._data.retry_at is not None:
                admits = now.mono >= self._data.retry_at.mono
            case Mode.HALF_OPEN:
                admits = self._live_probe(now) is None
            case mode:
                admits = mode is not Mode.FORCED_OPEN
        return None if admits and not self._data.is_held(now) else NoPermit(self.view().next_try_at(now))

    def permit(self, now: Instant) -> Permit | NoPermit:
        """Ask to make one call now. Record every `Permit`: a probe that is not recorded blocks the next for a while."""
        refused = self.refusal(now)
        if refused is not None:
            return refused
        match self._data.mode:
            case Mode.OPEN:
                half_open = self._enter(Mode.HALF_OPEN, Reason.RETRY_DUE, now, cause=self._data.cause)
                return self._admit_probe(now, half_open)
            case Mode.HALF_OPEN:
                return self._admit_probe(now)
            case _:
                self._heal(now)
                return Permit(self._data.generation)

    def hold(self, until: Instant) -> None:
        """The backend asks for no call before `until`. An earlier hold that ends later stays as it is.

        If the breaker is open and the hold ends later than its open period, the end of the hold becomes its
        `retry_at`, without a transition.
        """
        if self._data.held_until is None or until.mono > self._data.held_until.mono:
            self._data.held_until = until

    def release(self) -> None:
        """End the hold: an operator gave a command to this or another breaker of the backend."""
        self._data.held_until = None

    def record(
        self,
        permit: Permit,
        verdict: Verdict,
        *,
        now: Instant,
        jitter: float,
        fault: Fault | None = None,
        came_from: frozenset[str] = frozenset(),
    ) -> Transition | None:
        """Record the end of the call that `permit` admitted. Return the transition that it caused, if any.

        `fault` says why the call failed, and `came_from` which sources it was for. `jitter`, in [0, 1), is used if this
        opens the breaker. A permit counts once, and only in the generation in which it was given.
        """
        if permit.recorded:
            return None
        permit.recorded = True
        if not self._counts(permit, now):
            self.late_results += 1
            return None
        self._probe = None
        match verdict:
            case Verdict.IGNORED:
                return None
            case Verdict.ALIVE:
                # The backend answered, but refused this one call. While closed that neither ends nor continues a run of
                # failures. A probe only asks whether the backend is there, and it is.
                return self._succeeded(now) if self._data.mode is Mode.HALF_OPEN else None
            case Verdict.SUCCESS:
                return self._succeeded(now)
            case Verdict.FAILURE:
                return self._failed(now, jitter, fault, came_from)

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
        if self._data.mode is Mode.FORCED_CLOSED:
            return None
        return self._enter(Mode.FORCED_CLOSED, Reason.FORCE_CLOSED, now)

    def reset(self, now: Instant) -> Transition:
        """Close, forget every count, and end an override and a hold. Calls under way no longer count."""
        self.release()
        self._data.failures = self._data.successes = self._data.openings = 0
        return self._enter(Mode.CLOSED, Reason.RESET, now)

    def _counts(self, permit: Permit, now: Instant) -> bool:
        if permit.generation != self._data.generation:
            return False
        # A probe past its deadline has lost its place, so another one may be out: only that one decides.
        return self._data.mode is not Mode.HALF_OPEN or permit is self._live_probe(now)

    def _succeeded(self, now: Instant) -> Transition | None:
        self._tally(now, failed=False)
        if self._data.mode is Mode.HALF_OPEN and self._data.successes >= self._config.half_open_successes:
            return self._enter(Mode.CLOSED, Reason.PROBE_SUCCEEDED, now)
        return None

    def _failed(self, now: Instant, jitter: float, fault: Fault | None, came_from: frozenset[str]) -> Transition | None:
        self._tally(now, failed=True)
        if fault:
            self._data.last_error = LastFailure(fault.code, fault.message, now.wall, came_from)
            self._data.last_error_at = now
        reason = self._reason_to_open()
        return self._open(reason, now, jitter, fault.code if fault else None) if reason else None

    def _tally(self, now: Instant, *, failed: bool) -> None:
        self._heal(now)
        data = self._data
        data.failures = data.failures + 1 if failed else 0
        data.successes = 0 if failed else data.successes + 1
        if self._config.failure_rate is not None:
            data.window.add(now.mono, failed=failed)

    def _reason_to_open(self) -> Reason | None:
        config, data = self._config, self._data
        match data.mode:
            case Mode.HALF_OPEN:
                return Reason.PROBE_FAILED
            case Mode.CLOSED if data.failures >= config.failure_threshold:
                return Reason.FAILURE_THRESHOLD
            case Mode.CLOSED if config.failure_rate is not None and len(data.window) >= config.rate_minimum_calls:
                return Reason.FAILURE_RATE if data.window.failure_rate >= config.failure_rate else None
            case _:
                return None

    def _open(self, reason: Reason, now: Instant, jitter: float, cause: ErrorCode | None) -> Transition:
        config = self._config
        self._data.openings += 1
        period = open_period_s(self._data.openings, open_s=config.open_s, open_max_s=config.open_max_s, jitter=jitter)
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
        self._probe = None
        return self._data.enter(mode, reason, now, retry_at=retry_at, cause=cause)

    def _admit_probe(self, now: Instant, transition: Transition | None = None) -> Permit:
        self._probe = Permit(self._data.generation, transition)
        self._probe_expires = now.mono + self._config.probe_deadline_s
        return self._probe

    def _live_probe(self, now: Instant) -> Permit | None:
        return self._probe if self._probe is not None and now.mono < self._probe_expires else None

    def _heal(self, now: Instant) -> None:
        """Forget the openings once closed for long enough, so that a flapping backend keeps its back-off."""
        if self._data.mode is Mode.CLOSED and now.mono - self._data.since.mono >= self._config.heal_s:
            self._data.openings = 0
