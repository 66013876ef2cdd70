"""A model of one breaker that predicts every move from what the calls came to, held to from outside.

It reads `recovery.md` and `breaker.md`. Where these leave two readings open, or where nobody outside can tell whether a
call was a repetition, it allows both.
"""

import enum
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from simulation.holds import Hold
from simulation.tap import Exchange
from simulation.verdicts import Result, Verdict, code, is_unreachable, verdict, verdict_of
from tidegate.config import BackendConfig
from tidegate.core.instant import from_rfc3339

ROUNDING_S = 0.002
STEP_S = 1.0
POKED_S = 10.0
"""How often a poke lets a probe go."""

OPEN_MAX_S = 15.0
LONGEST_OPEN_S = 300.0
"""The longest period of a breaker without `open_max_s`: 15 s, or a tenth of the shortest interval, up to this."""


class Counted(enum.Enum):
    """Whether a failure is counted, as far as one can tell from outside."""

    SURELY = enum.auto()
    MAYBE = enum.auto()
    UNLESS_ALONE = enum.auto()
    """It is a repetition: not counted while all failures of its run are one source's."""


class Move(msgspec.Struct, frozen=True, rename={"came_from": "from"}):
    """The data of a `circuit_breaker.state`."""

    breaker: str
    state: str
    came_from: str | None
    reason: str
    forced: bool
    failure_count: int
    open_count: int
    opened_at: str | None
    retry_at: str | None


class Opening(NamedTuple):
    """One time that a breaker opened. It had opened `nth` times from closed in its episode, which `began` then.

    `doubled` counts the probes after a knock that found no connection.
    """

    at: float
    retry_at: float
    unreachable: bool
    unanswered: bool
    nth: int
    began: float
    doubled: int


class Predicted(NamedTuple):
    """A move that is due. `kept` is the `retry_at` that it may keep from before a knock, `must` whether it has to."""

    state: str
    cause: str | None
    failures: tuple[int, int]
    held_until: float
    openings: int
    openings_before: int
    kept: float | None = None
    must_keep: bool = False


class Model:
    """One breaker, told of every start and end of a call in their order.

    The gateway asks for a permit at the instant in which the call starts, but maybe before something else of that
    instant: `begin_instant` says when one begins, and a start may belong to any state of its instant that admits it.
    `pokes` are when its backend was poked.
    """

    def __init__(
        self, name: str, settings: BackendConfig, hold: Hold, *, shortest_s: float, pokes: Sequence[float]
    ) -> None:
        rules = settings.breaker
        self.name = name
        self.hold = hold
        self.timeout_s = settings.timeout_s
        self.open_max_s = rules.open_max_s or min(max(OPEN_MAX_S, shortest_s / 10), LONGEST_OPEN_S)
        self.sources = 0
        """How many stand behind it."""
        self.state = "closed"
        self.since = 0.0
        self.retry_at = 0.0
        self.retry_since = 0.0
        """Since when it is known: not since it opened again after a knock."""
        self.cause: str | None = None
        self.shown = self.shown_before = "closed"
        """The state that the last move told of; and before the present instant."""
        self.unreachable = False
        """Whether that was the newest judged outcome."""
        self.episode_began = float("-inf")
        self.doubled = 0
        self.reached_at = float("-inf")
        """When a knock last found that the backend can be reached."""
        self.opened: list[Opening] = []
        self.closed_at: list[float] = []
        self.predicted: list[Predicted] = []
        self._rules = rules
        self._pokes = pokes
        self._poked_at = float("-inf")
        self._deadline_s = settings.timeout_s + 1.0
        self._generation = 0
        self._run: set[str] = set()
        self._failed = 0
        self._failures = (0, 0)
        self._successes = 0
        self._openings = 0
        self._nth = 0  # how many times it opened from closed in this episode
        self._opened_from_closed_at = 0.0
        self._opened_at = 0.0
        self._early: str | None = None
        self._probe: tuple[Exchange, float] | None = None
        self._free_since = 0.0
        self._admitted: dict[Exchange, int] = {}
        self._admitting: list[int] = []
        self._fault: Result = None
        self._fault_unanswered = False
        self._caused: str | None = None
        self._moves: Sequence[Move] = ()
        self._made = 0

    def begin_instant(self, moves: Sequence[Move]) -> None:
        """A new instant, in which these `moves` will be told. What was predicted for the last one was compared."""
        self.predicted.clear()
        self._moves, self._made = moves, 0
        self.shown_before = self.shown
        self._admitting = [self._generation] if self.state == "closed" else []

    def next_tries(self, now: float) -> set[float | None]:
        """When the backend is asked again, as events of this instant may say; None: neither open nor held."""
        if self.shown == "open":
            return {max(self.retry_at, until) for until in self.hold.states}
        return {until if now < until else None for until in self.hold.states}

    @property
    def probe_at(self) -> float | None:
        """From when a probe is missing; None if none is."""
        match self.state:
            case "open":
                return max(self.retry_at, self.hold.until)
            case "half_open" if self._probe is None:
                return max(self._free_since, self.hold.until)
        return None

    @property
    def flaps_until(self) -> float:
        """A knock lets no probe go before this, once it opened from closed for the second time in an episode."""
        return self._opened_from_closed_at + self.flap_s / 2

    @property
    def flap_s(self) -> float:
        """How long that may be at the most."""
        return min(2.0 ** (self._nth - 2), self.open_max_s) if self._nth > 1 else 0.0

    def started(self, exchange: Exchange, now: float) -> str | None:
        """A call starts; what is wrong with that."""
        if now < self.hold.until - ROUNDING_S:
            return f"a call {self.hold.until - now:.3f} s before the end of the hold"
        complaint = None
        if self.state == "open":
            told = self._next_told()
            if told is not None and told.state == "half_open":
                complaint = self._wrong_reason(told.reason, now)
                self._early = told.reason
                self._admitting = []
                self._enter("half_open", now)
            elif now >= self.retry_at - ROUNDING_S and not self._admitting:
                self._early = "retry_due"
                self._enter("half_open", now)
        if self.state == "half_open" and not self._admitting:
            if self._probe is not None and now < self._probe[1]:
                return f"a call beside the probe of {self._probe[0].methods}"
            self._probe = (exchange, now + self._deadline_s)
            self._admitted[exchange] = self._generation
            return complaint
        if self.state == "closed":
            self._admitted[exchange] = self._generation
            return None
        if self._admitting:
            self._admitted[exchange] = self._admitting[0]
            return None
        return f"a call while {self.state}, {self.retry_at - now:.3f} s before its time"

    def ended(
        self, exchange: Exchange, failing: Collection[str], results: Sequence[Result], counted: Counted, now: float
    ) -> None:
        """A call ended. `failing` are the sources that it was for whose part of it failed."""
        generation = self._admitted.pop(exchange, None)
        if generation != self._generation or self.state == "open":
            return
        if self.state == "half_open":
            if self._probe is None or self._probe[0] is not exchange or now >= self._probe[1]:
                return
            self._probe = None
            self._free_since = now
        said = verdict(results)
        if said is Verdict.NOTHING:
            return
        if said is Verdict.ALIVE and self.state == "closed":
            self.unreachable = False
            return
        self.unreachable = is_unreachable(exchange, results)
        if said is Verdict.BAD:
            self._fault = next(result for result in results if verdict_of(result) is Verdict.BAD)
            self._fault_unanswered = self._fault is None
            self._failed_now(exchange, failing, counted, now)
        else:
            self._succeeded(now)

    def told(self, move: Move) -> str | None:
        """What is wrong with a move that was published in this instant, the next of those predicted."""
        if not self.predicted:
            return f"moved to {move.state}, though nothing made it"
        due = self.predicted.pop(0)
        self.cause, self.shown = due.cause, move.state
        if move.state != due.state:
            return f"moved to {move.state}, expected {due.state}"
        if not due.failures[0] <= move.failure_count <= due.failures[1]:
            return f"{move.failure_count} failures, expected {due.failures[0]} to {due.failures[1]}"
        return self._told_open(move, due) if due.state == "open" else None

    def _told_open(self, move: Move, due: Predicted) -> str | None:
        if move.retry_at is None or move.opened_at is None:
            return "open without a time to retry"
        period = from_rfc3339(move.retry_at) - from_rfc3339(move.opened_at)
        before, self._opened_at = self._opened_at, self.since
        if due.kept is not None:
            kept = max(due.kept, due.held_until)
            shown = [since + period for since in (self.since, before)]
            # A step of the wall clock that is no larger than `STEP_S` need not be followed by what is held.
            if move.open_count == due.openings_before and any(abs(at - kept) <= STEP_S for at in shown):
                self.retry_at = kept
                self._note_opening()
                return None
            if due.must_keep:
                return (
                    f"retry at {shown[0]:.3f}, opened {move.open_count} times, expected {kept:.3f} as before the knock"
                )
        self._openings = max(self._openings, due.openings) if due.openings > 1 else due.openings
        if not self.unreachable:
            self.doubled = 0
        self.retry_at, self.retry_since = self.since + period, self.since
        self._note_opening()
        longest = min(self._rules.open_s * 2 ** (move.open_count - 1), self.open_max_s)
        lower, upper = (max(d, due.held_until - self.since) for d in (longest / 2, longest))
        if not lower - ROUNDING_S <= period <= upper + ROUNDING_S:
            return f"open for {period:.3f} s, expected {lower:g} to {upper:g}"
        return None if move.open_count == due.openings else f"opened {move.open_count} times, not {due.openings}"

    def _note_opening(self) -> None:
        self.opened.append(
            Opening(
                self.since,
                self.retry_at,
                self.unreachable,
                self._fault_unanswered,
                self._nth,
                self.episode_began,
                self.doubled,
            )
        )

    def _wrong_reason(self, reason: str, now: float) -> str | None:
        """What is wrong with letting a probe go now for this `reason`."""
        early = f"{self.retry_at - now:.3f} s before its time"
        if reason == "retry_due":
            return None if now >= self.retry_at - ROUNDING_S else f"a probe {early}"
        if reason == "reachable":
            if not self.unreachable:
                return f"a probe {early} after a knock, though the backend is not unreachable but sick"
            if self.reached_at < self.since:
                return f"a probe {early}, and no knock has found the backend"
            if now < self.flaps_until - ROUNDING_S:
                return f"a probe {now - self.since:.3f} s after opening {self._nth} of a backend that flaps"
            return None
        if reason == "poke":
            poked = [at for at in self._pokes if max(self.since, self._poked_at + POKED_S) - ROUNDING_S <= at <= now]
            if not poked:
                return f"a probe {early}, and nobody poked since {max(self.since, self._poked_at + POKED_S):.3f}"
            self._poked_at = poked[0]
            return None
        return f"half-open because of {reason}"

    def _succeeded(self, now: float) -> None:
        self._failed, self._failures = 0, (0, 0)
        self._run.clear()
        self._successes += 1
        if self.state == "half_open" and self._successes >= self._rules.half_open_successes:
            self._enter("closed", now)

    def _failed_now(self, exchange: Exchange, failing: Collection[str], counted: Counted, now: float) -> None:
        successes, self._successes = self._successes, 0
        self._count(failing, counted)
        least, most = self._failures
        if self.state == "half_open":
            may_keep = self._early == "reachable" and not exchange.stood
            self._open(now, kept=self.retry_at if may_keep else None, must_keep=may_keep and not successes)
            return
        threshold = self._rules.failure_threshold
        told = self._next_told()
        opens_now = told is not None and told.state == "open" and least <= told.failure_count <= most
        if least >= threshold or (most >= threshold and opens_now):
            self._open(now)

    def _count(self, failing: Collection[str], counted: Counted) -> None:
        self._failed += 1
        self._run.update(failing)
        least, most = self._failures
        if len(self._run) > 1:
            self._failures = least + 1, self._failed  # what was not counted counts now
        elif self.state == "half_open" or counted is Counted.SURELY or self.sources == 1:
            self._failures = least + 1, most + 1
        elif counted is Counted.MAYBE:
            self._failures = least, most + 1

    def _open(self, now: float, *, kept: float | None = None, must_keep: bool = False) -> None:
        healed = self.state == "closed" and now - self.since >= self._rules.heal_s
        if healed or not self._openings:
            self.episode_began, self._nth = now, 0
        if self.state == "closed":
            self._nth += 1
            self._opened_from_closed_at = now
        before, openings = self._openings, 1 if healed else self._openings + 1
        if kept is None:
            self._openings = openings
        else:
            self.doubled += 1
        self._enter("open", now, openings=openings, before=before, kept=kept, must_keep=must_keep)

    def _next_told(self) -> Move | None:
        """The next move that will be told in this instant."""
        return self._moves[self._made] if self._made < len(self._moves) else None

    def _enter(
        self,
        state: str,
        now: float,
        *,
        openings: int = 0,
        before: int = 0,
        kept: float | None = None,
        must_keep: bool = False,
    ) -> None:
        if state != "half_open":
            self._caused = code(self._fault) if state == "open" else None
        if state == "closed":
            self.doubled = 0
            self.closed_at.append(now)
        self.state = state
        self.since = now
        self._successes = 0
        self._generation += 1
        self._probe = None
        self._free_since = now
        self._made += 1
        self.predicted.append(
            Predicted(state, self._caused, self._failures, self.hold.until, openings, before, kept, must_keep)
        )
