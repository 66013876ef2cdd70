"""The circuit breaker of one backend: closed, open, half-open, the operator's overrides, and holds.

Ask `permit` before a call and give its end to `record` after it. Every call carries the generation that admitted it,
so what ends late judges nothing. A transition is returned, never called back: the caller publishes it.

A hold is the backend's own wish to be left alone (``Retry-After``). It is no state: a breaker of any state admits
nothing before its end. The caller tells every breaker of the backend, before it records the outcome that brought it.

Decisions use monotonic time; wall time is only shown. Knows nothing of sources, data or events.
"""

import enum
from collections import deque
from collections.abc import Iterator
from typing import Self

import msgspec

from tidegate.backoff import Backoff
from tidegate.core.instant import Instant
from tidegate.core.outcome import Fault, Verdict
from tidegate.errors import ErrorCode


class State(enum.StrEnum):
    """Whether calls are let through, as clients see it."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Reason(enum.StrEnum):
    """Why a breaker is in its state."""

    START = "start"
    FAILURE_THRESHOLD = "failure_threshold"
    FAILURE_RATE = "failure_rate"
    RETRY_DUE = "retry_due"
    PROBE_FAILED = "probe_failed"
    PROBE_SUCCEEDED = "probe_succeeded"
    FORCE_OPEN = "force_open"
    FORCE_CLOSED = "force_closed"
    RESET = "reset"


HISTORY = 32
"""The newest moves of a breaker that are remembered."""


class BreakerRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens and closes. Durations are in seconds.

    It trips on `failure_threshold` failures in a row or, with `failure_rate` (above 0, at most 1), when at least that
    share of the calls of the last `rate_window_s` failed and they were `rate_minimum_calls` or more. A probe that has
    not ended after `probe_deadline_s` (the call's timeout and 1 s) loses its place to the next.
    """

    failure_threshold: int = 5
    open_s: float = 5.0
    open_max_s: float = 300.0
    half_open_successes: int = 1
    heal_s: float = 30.0
    probe_deadline_s: float = 3.0
    failure_rate: float | None = None
    rate_window_s: float = 60.0
    rate_minimum_calls: int = 10


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One move of a breaker, as `circuit_breaker.state` tells it.

    `from_state` is None for the first of a process. `failure_count` is the run of failures, `open_count` how many
    times in a row it has opened. `opened_at` and `retry_at` are in Unix seconds and None unless open; `retry_at` is
    None also while forced open. `cause` is the code of the failure that opened it, while it has not closed since.
    """

    breaker: str
    state: State
    from_state: State | None
    reason: Reason
    forced: bool
    failure_count: int
    open_count: int
    opened_at: float | None
    retry_at: float | None
    cause: ErrorCode | None


class Permit:
    """The right to make one call, to be given back to `Breaker.record` once, whatever became of the call.

    `transition` is set on the probe that moved the breaker to half-open.
    """

    __slots__ = ("generation", "recorded", "transition")

    def __init__(self, generation: int, transition: Transition | None = None) -> None:
        self.generation = generation
        self.recorded = False
        self.transition = transition


class NoPermit(msgspec.Struct, frozen=True):
    """No call now. `retry_at` in Unix seconds; None while a probe is out or the breaker is forced open.

    A hold that has not ended is at least as long.
    """

    retry_at: float | None


class LastFailure(msgspec.Struct, frozen=True):
    """The newest failure that counted; `at` in Unix seconds. `came_from` are the sources whose call it ended."""

    code: ErrorCode
    message: str
    at: float
    came_from: frozenset[str] = frozenset()


class Move(msgspec.Struct, frozen=True):
    """One move of a breaker in its history; `from_state` is None for the first of a process."""

    at: Instant
    from_state: State | None
    to: State
    reason: Reason


class CarriedMove(msgspec.Struct, frozen=True):
    """A `Move`, as JSON can carry it: `at` in Unix seconds."""

    at: float
    from_state: State | None
    to: State
    reason: Reason


class CarriedBreaker(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state of a `Breaker`, as JSON can carry it: times are Unix seconds.

    `mode` is the state with an operator's will in it. `window` are the calls that `failure_rate` counts, each with
    whether it failed.
    """

    mode: str
    generation: int
    since: float
    failures: int
    successes: int
    openings: int
    retry_at: float | None
    held_until: float | None
    cause: ErrorCode | None
    last_error: LastFailure | None
    history: list[CarriedMove]
    window: list[tuple[float, bool]]


class BreakerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What ``GET /api/v1/status/circuit-breaker`` shows of a breaker, but for its times. A field added here is shown.

    `failure_count` and `success_count` are the current run of failures and of successes, one of them 0.
    """

    name: str
    state: State
    forced: bool
    failure_count: int
    success_count: int
    open_count: int


class BreakerView(BreakerFacts, frozen=True, kw_only=True):
    """A breaker as it is now, and `cause` as in `Transition`.

    Times are in Unix seconds: `since` is when it entered its state. `history` are the newest `HISTORY` moves, oldest
    first. `held_until` is when the backend's last wish to be left alone ends or ended; None if it had none, or an
    operator has ended it.
    """

    since: float
    retry_at: float | None
    last_error: LastFailure | None
    cause: ErrorCode | None
    history: tuple[Move, ...] = ()
    held_until: Instant | None = None

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    def next_try_at(self, now: Instant) -> float | None:
        """Unix seconds before which nothing is asked, because of an open breaker or a hold; None without either."""
        if self.retry_at is not None or (self.forced and not self.is_closed):
            return self.retry_at
        return self.held_until.wall if self.held_until is not None and now.mono < self.held_until.mono else None


def open_period_s(n: int, *, open_s: float, open_max_s: float, jitter: float) -> float:
    """Seconds to stay open the `n`-th time in a row, from 1: doubling from `open_s` up to `open_max_s`.

    `jitter`, in [0, 1), places the result in the upper half of that.
    """
    return Backoff(first_s=open_s, max_s=open_max_s, least=0.5, most=1.0).delay_s(n, jitter=jitter)


class _Mode(enum.Enum):
    """The one state that a breaker is in: what it shows, and whether an operator holds it there."""

    CLOSED = (State.CLOSED, False)
    OPEN = (State.OPEN, False)
    HALF_OPEN = (State.HALF_OPEN, False)
    FORCED_OPEN = (State.OPEN, True)
    FORCED_CLOSED = (State.CLOSED, True)

    def __init__(self, shown: State, forced: bool) -> None:
        self.shown = shown
        self.forced = forced


class Breaker:
    """One breaker. Owned by one event loop; nothing in it waits, calls out or raises."""

    def __init__(self, name: str, config: BreakerRules, *, now: Instant) -> None:
        self.name = name
        self.late_results = 0
        """Outcomes of calls that an earlier generation admitted, or of probes that had lost their place."""
        self._config = config
        self._mode = _Mode.CLOSED
        self._generation = 0
        self._since = now
        self._failures = 0
        self._successes = 0
        self._openings = 0
        self._retry_at: Instant | None = None
        self._held_until: Instant | None = None
        self._cause: ErrorCode | None = None
        self._last_error: LastFailure | None = None
        self._last_error_at: Instant  # set with it
        self._history: tuple[Move, ...] = (Move(now, None, State.CLOSED, Reason.START),)
        self._probe: Permit | None = None
        self._probe_expires: float  # of the probe
        self._window = _Window(config.rate_window_s)

    def initial(self) -> Transition:
        """The first transition of a process, which the caller publishes before any other."""
        return self._transition(None, Reason.START)

    @classmethod
    def resumed(cls, name: str, config: BreakerRules, carried: CarriedBreaker, *, now: Instant) -> Self:
        """Go on where `carried` left off, in a new generation: what was admitted before judges nothing any more.

        A probe that was out then is not known here, so that the next one may go at once.
        """
        resumed = cls(name, config, now=now)
        resumed._mode = _Mode[carried.mode]
        resumed._generation = carried.generation + 1
        resumed._since = now.when(carried.since)
        resumed._failures = carried.failures
        resumed._successes = carried.successes
        resumed._openings = carried.openings
        resumed._retry_at = _when(now, carried.retry_at)
        resumed._held_until = _when(now, carried.held_until)
        resumed._cause = carried.cause
        if carried.last_error is not None:
            resumed._last_error = carried.last_error
            resumed._last_error_at = now.when(carried.last_error.at)
        resumed._history = tuple(
            Move(now.when(move.at), move.from_state, move.to, move.reason) for move in carried.history
        )
        for at, failed in carried.window:
            resumed._window.add(now.when(at).mono, failed=failed)
        return resumed

    def carried(self, now: Instant) -> CarriedBreaker:
        """The whole state at `now`, but for the calls under way."""
        self.follow_clock(now)
        return CarriedBreaker(
            mode=self._mode.name,
            generation=self._generation,
            since=self._since.wall,
            failures=self._failures,
            successes=self._successes,
            openings=self._openings,
            retry_at=None if self._retry_at is None else self._retry_at.wall,
            held_until=None if self._held_until is None else self._held_until.wall,
            cause=self._cause,
            last_error=self._last_error,
            history=[CarriedMove(move.at.wall, move.from_state, move.to, move.reason) for move in self._history],
            window=[(now.wall_at(at), failed) for at, failed in self._window],
        )

    @property
    def is_closed(self) -> bool:
        """Whether every call is admitted, by an operator's will or without."""
        return self._mode.shown is State.CLOSED

    @property
    def retry_at_mono(self) -> float | None:
        """Monotonic time from which a probe is admitted; None unless open of its own accord."""
        retry_at = self._announced
        return None if retry_at is None else retry_at.mono

    @property
    def probe_at_mono(self) -> float | None:
        """Monotonic time from which the next probe is wanted; None while closed, or held open by an operator.

        In half-open that is at once, or when the probe that is out loses its place. It may have passed.
        """
        match self._mode:
            case _Mode.OPEN:
                return self.retry_at_mono
            case _Mode.HALF_OPEN:
                free_at = self._since.mono if self._probe is None else self._probe_expires
                return free_at if self._held_until is None else max(free_at, self._held_until.mono)
            case _:
                return None

    def view(self) -> BreakerView:
        return BreakerView(
            name=self.name,
            state=self._mode.shown,
            forced=self._mode.forced,
            since=self._since.wall,
            failure_count=self._failures,
            success_count=self._successes,
            open_count=self._openings,
            retry_at=self._retry_at_wall,
            last_error=self._last_error,
            cause=self._cause,
            history=self._history,
            held_until=self._held_until,
        )

    def follow_clock(self, now: Instant) -> None:
        """Move the times that `view` shows if the wall clock was set since they were taken. Nothing else changes."""
        self._since = self._since.seen_at(now)
        if any(move.at.step_to(now) for move in self._history):
            self._history = tuple(msgspec.structs.replace(move, at=move.at.seen_at(now)) for move in self._history)
        if self._retry_at is not None:
            self._retry_at = self._retry_at.seen_at(now)
        if self._held_until is not None:
            self._held_until = self._held_until.seen_at(now)
        if self._last_error is not None:
            self._last_error_at = self._last_error_at.seen_at(now)
            self._last_error = msgspec.structs.replace(self._last_error, at=self._last_error_at.wall)

    def refusal(self, now: Instant) -> NoPermit | None:
        """What `permit` would refuse a call with at `now`; None where it would admit one. Changes nothing."""
        match self._mode:
            case _Mode.OPEN if self._retry_at is not None:
                admits = now.mono >= self._retry_at.mono
            case _Mode.HALF_OPEN:
                admits = self._live_probe(now) is None
            case mode:
                admits = mode is not _Mode.FORCED_OPEN
        return None if admits and not self._is_held(now) else NoPermit(self.view().next_try_at(now))

    def permit(self, now: Instant) -> Permit | NoPermit:
        """Ask to make one call now. Whoever gets a `Permit` must record it, or a probe's place is lost for a while."""
        refused = self.refusal(now)
        if refused is not None:
            return refused
        match self._mode:
            case _Mode.OPEN:
                return self._admit_probe(now, self._enter(_Mode.HALF_OPEN, Reason.RETRY_DUE, now, cause=self._cause))
            case _Mode.HALF_OPEN:
                return self._admit_probe(now)
            case _:
                self._heal(now)
                return Permit(self._generation)

    def hold(self, until: Instant) -> None:
        """The backend asks for no call before `until`. A hold that ends later already stays as it is.

        A breaker that is open says the end of it as its `retry_at`, if that is later, without a transition.
        """
        if self._held_until is None or until.mono > self._held_until.mono:
            self._held_until = until

    def release(self) -> None:
        """An operator has ended the hold, by a command to this or another breaker of the backend."""
        self._held_until = None

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
        """Tell the end of the call that `permit` admitted; the transition that it caused, if any.

        `fault` says why it failed; `came_from` are the sources whose call it ended. `jitter`, in [0, 1), is used if
        this opens the breaker. A permit counts once, and only in the generation that gave it.
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
                # While closed it says nothing about a run of failures; a probe asks only whether anyone is there.
                return self._succeeded(now) if self._mode is _Mode.HALF_OPEN else None
            case Verdict.SUCCESS:
                return self._succeeded(now)
            case Verdict.FAILURE:
                return self._failed(now, jitter, fault, came_from)

    def force_open(self, now: Instant) -> Transition | None:
        """Refuse every call until `reset`; None if that is so already."""
        if self._mode is _Mode.FORCED_OPEN:
            return None
        return self._enter(_Mode.FORCED_OPEN, Reason.FORCE_OPEN, now)

    def force_closed(self, now: Instant) -> Transition | None:
        """Admit every call until `reset`, whatever becomes of it, and end a hold; None if that is so already.

        What asks to be left alone after this is held again.
        """
        self.release()
        if self._mode is _Mode.FORCED_CLOSED:
            return None
        return self._enter(_Mode.FORCED_CLOSED, Reason.FORCE_CLOSED, now)

    def reset(self, now: Instant) -> Transition:
        """Close, forget every count, and let go of an override and of a hold. Calls under way no longer count."""
        self.release()
        self._failures = self._successes = self._openings = 0
        return self._enter(_Mode.CLOSED, Reason.RESET, now)

    def _counts(self, permit: Permit, now: Instant) -> bool:
        if permit.generation != self._generation:
            return False
        return self._mode is not _Mode.HALF_OPEN or permit is self._live_probe(now)

    def _succeeded(self, now: Instant) -> Transition | None:
        self._tally(now, failed=False)
        if self._mode is _Mode.HALF_OPEN and self._successes >= self._config.half_open_successes:
            return self._enter(_Mode.CLOSED, Reason.PROBE_SUCCEEDED, now)
        return None

    def _failed(self, now: Instant, jitter: float, fault: Fault | None, came_from: frozenset[str]) -> Transition | None:
        self._tally(now, failed=True)
        if fault:
            self._last_error = LastFailure(fault.code, fault.message, now.wall, came_from)
            self._last_error_at = now
        reason = self._reason_to_open()
        return self._open(reason, now, jitter, fault.code if fault else None) if reason else None

    def _tally(self, now: Instant, *, failed: bool) -> None:
        self._heal(now)
        self._failures = self._failures + 1 if failed else 0
        self._successes = 0 if failed else self._successes + 1
        if self._config.failure_rate is not None:
            self._window.add(now.mono, failed=failed)

    def _reason_to_open(self) -> Reason | None:
        config = self._config
        match self._mode:
            case _Mode.HALF_OPEN:
                return Reason.PROBE_FAILED
            case _Mode.CLOSED if self._failures >= config.failure_threshold:
                return Reason.FAILURE_THRESHOLD
            case _Mode.CLOSED if config.failure_rate is not None and len(self._window) >= config.rate_minimum_calls:
                return Reason.FAILURE_RATE if self._window.failure_rate >= config.failure_rate else None
            case _:
                return None

    def _open(self, reason: Reason, now: Instant, jitter: float, cause: ErrorCode | None) -> Transition:
        config = self._config
        self._openings += 1
        period = open_period_s(self._openings, open_s=config.open_s, open_max_s=config.open_max_s, jitter=jitter)
        retry_at = Instant(now.mono + period, now.wall + period)
        return self._enter(_Mode.OPEN, reason, now, retry_at=retry_at, cause=cause)

    def _enter(
        self,
        mode: _Mode,
        reason: Reason,
        now: Instant,
        *,
        retry_at: Instant | None = None,
        cause: ErrorCode | None = None,
    ) -> Transition:
        """The only place where the breaker moves."""
        before = self._mode
        self._mode = mode
        self._generation += 1
        self._since = now
        self._retry_at = retry_at
        self._cause = cause
        self._probe = None
        self._window.clear()
        self._history = (*self._history, Move(now, before.shown, mode.shown, reason))[-HISTORY:]
        return self._transition(before.shown, reason)

    def _transition(self, from_state: State | None, reason: Reason) -> Transition:
        is_open = self._mode.shown is State.OPEN
        return Transition(
            breaker=self.name,
            state=self._mode.shown,
            from_state=from_state,
            reason=reason,
            forced=self._mode.forced,
            failure_count=self._failures,
            open_count=self._openings,
            opened_at=self._since.wall if is_open else None,
            retry_at=self._retry_at_wall,
            cause=self._cause,
        )

    @property
    def _announced(self) -> Instant | None:
        """When a probe is admitted: the end of the open period, or of a hold if that is later; None unless open."""
        if self._retry_at is None or self._held_until is None:
            return self._retry_at
        return max(self._retry_at, self._held_until, key=lambda instant: instant.mono)

    @property
    def _retry_at_wall(self) -> float | None:
        retry_at = self._announced
        return None if retry_at is None else retry_at.wall

    def _is_held(self, now: Instant) -> bool:
        return self._held_until is not None and now.mono < self._held_until.mono

    def _admit_probe(self, now: Instant, transition: Transition | None = None) -> Permit:
        self._probe = Permit(self._generation, transition)
        self._probe_expires = now.mono + self._config.probe_deadline_s
        return self._probe

    def _live_probe(self, now: Instant) -> Permit | None:
        return self._probe if self._probe is not None and now.mono < self._probe_expires else None

    def _heal(self, now: Instant) -> None:
        """Forget the openings once closed for long enough, so that a flapping backend keeps its back-off."""
        if self._mode is _Mode.CLOSED and now.mono - self._since.mono >= self._config.heal_s:
            self._openings = 0


def _when(now: Instant, wall: float | None) -> Instant | None:
    return None if wall is None else now.when(wall)


class _Window:
    """The calls of the last `span_s` seconds, and how many of them failed."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0

    def add(self, now: float, *, failed: bool) -> None:
        self._calls.append((now, failed))
        self._failed += failed
        while self._calls[0][0] <= now - self._span_s:
            self._failed -= self._calls.popleft()[1]

    def clear(self) -> None:
        self._calls.clear()
        self._failed = 0

    def __iter__(self) -> Iterator[tuple[float, bool]]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def failure_rate(self) -> float:
        """The share of calls that failed. Asked only of a window with calls in it."""
        return self._failed / len(self._calls)
