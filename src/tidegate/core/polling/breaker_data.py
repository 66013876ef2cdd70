"""What a breaker remembers, and how that is shown, carried to another process and moved with the wall clock.

The data alone: `breaker` decides when a breaker moves and what counts, and nobody else changes this.
"""

from typing import Self

import msgspec

from tidegate.core.instant import Instant, carried_time, resumed_time
from tidegate.core.polling.breaker_runs import CallWindow, Episode, Run
from tidegate.core.polling.breaker_values import (
    BreakerRules,
    BreakerView,
    LastFailure,
    Mode,
    Move,
    Reason,
    State,
    Transition,
)
from tidegate.core.polling.carried import CarriedBreaker, CarriedMove
from tidegate.errors import ErrorCode

HISTORY = 32
"""How many of its newest moves a breaker remembers. Every status answer shows them all, so they must stay few."""


class BreakerData:
    """Everything that a breaker remembers, except the calls under way.

    `generation` grows with each move. `failures` and `successes` are the current runs, `openings` how many times in a
    row the breaker has opened. `retry_at` ends the open period, `held_until` the backend's newest hold.

    `run` is what is known of the current run of failures beside their count. `unreachable` is whether the newest
    outcome that counted was. `episode` begins when a closed breaker opens, and ends when it was closed for long enough.
    """

    __slots__ = (
        "cause",
        "episode",
        "failures",
        "generation",
        "held_until",
        "history",
        "last_error",
        "last_error_at",
        "mode",
        "name",
        "openings",
        "retry_at",
        "run",
        "since",
        "successes",
        "unreachable",
        "window",
    )

    last_error_at: Instant  # set together with `last_error`

    def __init__(self, name: str, config: BreakerRules, *, now: Instant) -> None:
        self.name = name
        self.mode = Mode.CLOSED
        self.generation = 0
        self.since = now
        self.failures = 0
        self.successes = 0
        self.openings = 0
        self.retry_at: Instant | None = None
        self.held_until: Instant | None = None
        self.cause: ErrorCode | None = None
        self.last_error: LastFailure | None = None
        self.history: tuple[Move, ...] = (Move(now, None, State.CLOSED, Reason.START),)
        self.window = CallWindow(config.rate_window_s)
        self.run = Run()
        self.unreachable = False
        self.episode: Episode | None = None

    @classmethod
    def from_carried(cls, name: str, config: BreakerRules, carried: CarriedBreaker, *, now: Instant) -> Self:
        """Go on where `carried` left off, in a new generation: calls that were admitted before no longer count."""
        resumed = cls(name, config, now=now)
        resumed.mode = Mode[carried.mode]
        resumed.generation = carried.generation + 1
        resumed.since = now.when(carried.since)
        resumed.failures = carried.failures
        resumed.successes = carried.successes
        resumed.openings = carried.openings
        resumed.retry_at = _when(now, carried.retry_at)
        resumed.held_until = _when(now, carried.held_until)
        resumed.cause = carried.cause
        if carried.last_error is not None:
            resumed.last_error = carried.last_error
            resumed.last_error_at = now.when(carried.last_error.at)
        resumed.history = tuple(
            Move(now.when(move.at), move.from_state, move.to, move.reason) for move in carried.history
        )
        for at, failed in carried.window:
            resumed.window.add(now.when(at).mono, failed=failed)
        resumed.run = Run(resumed_time(carried.run_began, now), carried.uncounted, frozenset(carried.run_from))
        resumed.unreachable = carried.unreachable
        if carried.episode is not None:
            resumed.episode = Episode.from_carried(carried.episode, now)
        return resumed

    def carried(self, now: Instant) -> CarriedBreaker:
        """The whole state at `now`."""
        self.follow_clock(now)
        return CarriedBreaker(
            mode=self.mode.name,
            generation=self.generation,
            since=self.since.wall,
            failures=self.failures,
            successes=self.successes,
            openings=self.openings,
            retry_at=None if self.retry_at is None else self.retry_at.wall,
            held_until=None if self.held_until is None else self.held_until.wall,
            cause=self.cause,
            last_error=self.last_error,
            history=[CarriedMove(move.at.wall, move.from_state, move.to, move.reason) for move in self.history],
            window=[(now.wall_at(at), failed) for at, failed in self.window],
            run_began=carried_time(self.run.began, now),
            uncounted=self.run.uncounted,
            run_from=sorted(self.run.came_from),
            unreachable=self.unreachable,
            episode=None if self.episode is None else self.episode.carried(now),
        )

    def enter(
        self, mode: Mode, reason: Reason, now: Instant, *, retry_at: Instant | None, cause: ErrorCode | None
    ) -> Transition:
        """Move to `mode`, in a new generation and with an empty window."""
        before = self.mode.shown
        self.mode = mode
        self.generation += 1
        self.since = now
        self.retry_at = retry_at
        self.cause = cause
        self.window.clear()
        self.history = (*self.history, Move(now, before, mode.shown, reason))[-HISTORY:]
        return self.transition(before, reason)

    def forget_counts(self) -> None:
        """Forget the runs of calls and of openings."""
        self.failures = self.successes = self.openings = 0
        self.run, self.episode, self.unreachable = Run(), None, False

    def knocks_from_mono(self, now: Instant) -> float | None:
        """See `Breaker.knocks_from_mono`."""
        wants = self.mode is Mode.OPEN and self.unreachable and not self.is_held(now)
        return self.episode.knock_from if wants and self.episode else None

    def is_held(self, now: Instant) -> bool:
        """Whether the backend has asked to be left alone, and that has not ended."""
        return self.held_until is not None and now.mono < self.held_until.mono

    @property
    def probe_admitted_at(self) -> Instant | None:
        """When a probe is admitted: the end of the open period, or of a hold if that is later; None unless open."""
        if self.retry_at is None or self.held_until is None:
            return self.retry_at
        return max(self.retry_at, self.held_until, key=lambda instant: instant.mono)

    def view(self, rules: BreakerRules) -> BreakerView:
        """The breaker as others see it; `rules` are those that it follows."""
        return BreakerView(
            name=self.name,
            state=self.mode.shown,
            forced=self.mode.forced,
            since=self.since.wall,
            failure_count=self.failures,
            failure_threshold=rules.failure_threshold,
            success_count=self.successes,
            open_count=self.openings,
            open_max_s=rules.open_max_s,
            half_open_successes=rules.half_open_successes,
            retry_at=self._retry_at_wall,
            last_error=self.last_error,
            cause=self.cause,
            history=self.history,
            held_until=self.held_until,
        )

    def first(self, reason: Reason) -> Transition:
        """The transition from nothing to its state. One that began with a reload says so from then on."""
        if reason is Reason.RELOAD:
            self.history = (msgspec.structs.replace(self.history[0], reason=reason), *self.history[1:])
        return self.transition(None, reason)

    def transition(self, from_state: State | None, reason: Reason) -> Transition:
        """The move from `from_state` to the current state."""
        is_open = self.mode.shown is State.OPEN
        return Transition(
            breaker=self.name,
            state=self.mode.shown,
            from_state=from_state,
            reason=reason,
            forced=self.mode.forced,
            failure_count=self.failures,
            open_count=self.openings,
            opened_at=self.since.wall if is_open else None,
            retry_at=self._retry_at_wall,
            cause=self.cause,
        )

    def follow_clock(self, now: Instant) -> None:
        """If the wall clock was set, move the times that are shown. Decisions use monotonic time, so none changes."""
        self.since = self.since.seen_at(now)
        if any(move.at.step_to(now) for move in self.history):
            self.history = tuple(msgspec.structs.replace(move, at=move.at.seen_at(now)) for move in self.history)
        if self.retry_at is not None:
            self.retry_at = self.retry_at.seen_at(now)
        if self.held_until is not None:
            self.held_until = self.held_until.seen_at(now)
        if self.last_error is not None:
            self.last_error_at = self.last_error_at.seen_at(now)
            self.last_error = msgspec.structs.replace(self.last_error, at=self.last_error_at.wall)

    @property
    def _retry_at_wall(self) -> float | None:
        retry_at = self.probe_admitted_at
        return None if retry_at is None else retry_at.wall


def _when(now: Instant, wall: float | None) -> Instant | None:
    return None if wall is None else now.when(wall)
