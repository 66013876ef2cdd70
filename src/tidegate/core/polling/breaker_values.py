"""What a circuit breaker is configured with, and what others see of it.

Values only: `tidegate.core.polling.breaker` has the rules. Times are in Unix seconds unless they are an `Instant`.
"""

import enum

import msgspec

from tidegate.backoff import Backoff
from tidegate.core.instant import Instant
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
    REACHABLE = "reachable"
    POKE = "poke"
    PROBE_FAILED = "probe_failed"
    PROBE_SUCCEEDED = "probe_succeeded"
    FORCE_OPEN = "force_open"
    FORCE_CLOSED = "force_closed"
    RESET = "reset"
    RELOAD = "reload"


class Mode(enum.Enum):
    """The one state that a breaker is in: the state it shows, and whether an operator holds it there."""

    CLOSED = (State.CLOSED, False)
    OPEN = (State.OPEN, False)
    HALF_OPEN = (State.HALF_OPEN, False)
    FORCED_OPEN = (State.OPEN, True)
    FORCED_CLOSED = (State.CLOSED, True)

    def __init__(self, shown: State, forced: bool) -> None:
        self.shown = shown
        self.forced = forced


class BreakerRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens and closes. Durations are in seconds.

    A breaker opens after `failure_threshold` failures in a row. With `failure_rate` (above 0, at most 1) it also opens
    when at least that share of the calls of the last `rate_window_s` failed, once there were `rate_minimum_calls`.
    """

    failure_threshold: int = 5
    open_s: float = 2.0
    open_max_s: float = 15.0
    half_open_successes: int = 1
    heal_s: float = 30.0
    failure_rate: float | None = None
    rate_window_s: float = 60.0
    rate_minimum_calls: int = 10


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One move of a breaker, as `circuit_breaker.state` tells it.

    `from_state` is None for the first event about a breaker in an epoch. `failure_count` is the current run of
    failures, `open_count` how many times in a row it has opened. `opened_at` and `retry_at` are None unless it is open;
    `retry_at` is also None while it is forced open. `cause` is the code of the failure that opened it; it is kept until
    the breaker closes.
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


class BreakerGone(msgspec.Struct, frozen=True):
    """There is no `breaker` of that name any more. `about` are the event types of the sources that it served."""

    breaker: str
    about: frozenset[str]


class LastFailure(msgspec.Struct, frozen=True):
    """The newest failure that counted. `came_from` are the sources whose call failed."""

    code: ErrorCode
    message: str
    at: float
    came_from: frozenset[str] = frozenset()


class Move(msgspec.Struct, frozen=True):
    """One move of a breaker in its history. `from_state` is None for the first of a process."""

    at: Instant
    from_state: State | None
    to: State
    reason: Reason


class BreakerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What ``GET /api/v1/status/circuit-breaker`` shows of a breaker, except its times. Every field here is shown.

    `failure_count` and `success_count` are the current run of failures and of successes; one of them is 0.
    `failure_threshold`, `open_max_s` and `half_open_successes` are configured: with them a client can tell how many
    failures in a row are missing until it opens, and how soon after its return a backend is known to be back.
    """

    name: str
    state: State
    forced: bool
    failure_count: int
    failure_threshold: int
    success_count: int
    open_count: int
    open_max_s: float
    half_open_successes: int


class BreakerView(BreakerFacts, frozen=True, kw_only=True):
    """A snapshot of a breaker. `cause` is as in `Transition`.

    `since` is when it entered its state. `history` holds its newest moves, oldest first. `held_until` is the end of the
    backend's newest hold, which may have passed; None if there was no hold, or an operator has ended it.
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
        """Unix seconds before which the backend is not asked, because of an open breaker or a hold; else None."""
        if self.retry_at is not None or (self.forced and not self.is_closed):
            return self.retry_at
        return self.held_until.wall if self.held_until is not None and now.mono < self.held_until.mono else None


def open_period_s(n: int, *, open_s: float, open_max_s: float, jitter: float) -> float:
    """Return the seconds to stay open the `n`-th time in a row, from 1: doubling from `open_s` up to `open_max_s`.

    `jitter`, in [0, 1), places the result in the upper half of that.
    """
    return Backoff(first_s=open_s, max_s=open_max_s, least=0.5, most=1.0).delay_s(n, jitter=jitter)
