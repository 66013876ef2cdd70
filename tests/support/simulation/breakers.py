"""A model of one breaker that predicts every move from what the calls came to: `breaker.md`, held to from outside."""

import enum
from collections.abc import Sequence

import msgspec

from simulation.backend import Exchange
from tidegate.config import BackendConfig, BreakerConfig
from tidegate.core.instant import from_rfc3339
from tidegate.errors import ApplicationError, BackendError, HttpStatus, MappingFailed, NoCredentials

ALIVE_CODES = {-32600, -32601, -32602, -32700}
BUSY_STATUSES = {408, 425, 429}
HOLDING_STATUSES = {429, 503}
ROUNDING_S = 0.002


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


Result = bytes | BackendError | None
"""What one source's part of a call came to: an answer, an error, or nothing before the deadline."""


class Verdict(enum.Enum):
    """What a call says about its backend; of a batch the first of these that any element says."""

    GOOD = 0
    BAD = 1
    ALIVE = 2
    NOTHING = 3


def verdict(results: Sequence[Result]) -> Verdict:
    """What an exchange says about its backend. Contract, section 7: one verdict for a batch."""
    return min((_verdict(result) for result in results), key=lambda verdict: verdict.value)


def code(result: Result) -> str | None:
    """The error code of one result; None for an answer. No result at all: the deadline passed."""
    match result:
        case None:
            return "RPC_TIMEOUT"
        case BackendError():
            return str(result.code)
    return None


def _verdict(result: Result) -> Verdict:
    match result:
        case ApplicationError(rpc_code=number) if number in ALIVE_CODES:
            return Verdict.ALIVE
        case HttpStatus(status=status) if 300 <= status < 500 and status not in BUSY_STATUSES:
            return Verdict.ALIVE
        case MappingFailed():
            return Verdict.ALIVE
        case NoCredentials():
            return Verdict.NOTHING
        case bytes():
            return Verdict.GOOD
    return Verdict.BAD


def longest_open_s(rules: BreakerConfig) -> float:
    """The longest open period in seconds. Every scenario sets it."""
    assert rules.open_max_s is not None
    return rules.open_max_s


class Hold:
    """What a backend asked for: to be left alone until when. `states` are that before this instant, and those in it."""

    def __init__(self, settings: BackendConfig) -> None:
        self.states = [float("-inf")]
        self.spans: list[tuple[float, float]] = []
        self._longest_s = settings.retry_after_max_s

    @property
    def until(self) -> float:
        return self.states[-1]

    def begin_instant(self) -> None:
        del self.states[:-1]

    def ended(self, exchange: Exchange) -> None:
        """A call ended, maybe with ``Retry-After``."""
        wishes = [r.retry_after_s or 0.0 for r in exchange.results or () if isinstance(r, HttpStatus) and _holds(r)]
        wish = min(max(wishes, default=0.0), self._longest_s)
        assert exchange.ended is not None
        if wish and exchange.ended + wish > self.until:
            self.states.append(exchange.ended + wish)
            self.spans.append((exchange.ended, self.until))


def _holds(error: HttpStatus) -> bool:
    return error.status in HOLDING_STATUSES


class Model:
    """One breaker, told of every start and end of a call in their order.

    The gateway asks for a permit at the instant in which the call starts, but maybe before something else of that
    instant: `begin_instant` says when one begins, and a start may belong to any state of its instant that admits it.
    """

    def __init__(self, name: str, settings: BackendConfig, hold: Hold) -> None:
        self.name = name
        self.hold = hold
        self.timeout_s = settings.timeout_s
        self.open_max_s = longest_open_s(settings.breaker)
        self.state = "closed"
        self.since = 0.0
        self.retry_at = 0.0
        self.cause: str | None = None
        self.shown = self.shown_before = "closed"
        """The state that the last move told of; and before the present instant."""
        self._rules = settings.breaker
        self._deadline_s = settings.timeout_s + 1.0
        self._generation = 0
        self._failures = 0
        self._successes = 0
        self._openings = 0
        self._probe: tuple[Exchange, float] | None = None
        self._free_since = 0.0
        self._admitted: dict[Exchange, int] = {}
        self._admitting: list[int] = []
        self._fault: Result = None
        self.predicted: list[tuple[str, str | None, int, float]] = []
        self._caused: str | None = None

    def begin_instant(self, now: float) -> None:
        """A new instant: what was predicted for the last one has been compared with what was told."""
        self.predicted.clear()
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

    def started(self, exchange: Exchange, now: float) -> str | None:
        """A call starts; what is wrong with that."""
        if now < self.hold.until - ROUNDING_S:
            return f"a call {self.hold.until - now:.3f} s before the end of the hold"
        if self.state == "open" and now >= self.retry_at - ROUNDING_S and not self._admitting:
            self._enter("half_open", now)
        if self.state == "half_open" and not self._admitting:
            if self._probe is not None and now < self._probe[1]:
                return f"a call beside the probe of {self._probe[0].methods}"
            self._probe = (exchange, now + self._deadline_s)
            self._admitted[exchange] = self._generation
            return None
        if self.state == "closed":
            self._admitted[exchange] = self._generation
            return None
        if self._admitting:
            self._admitted[exchange] = self._admitting[0]
            return None
        return f"a call while {self.state}, {self.retry_at - now:.3f} s before its time"

    def ended(self, exchange: Exchange, results: Sequence[Result], now: float) -> None:
        """A call ended."""
        generation = self._admitted.pop(exchange, None)
        if generation != self._generation or self.state == "open":
            return
        if self.state == "half_open":
            if self._probe is None or self._probe[0] is not exchange or now >= self._probe[1]:
                return
            self._probe = None
            self._free_since = now
        said = verdict(results)
        if said is Verdict.NOTHING or (said is Verdict.ALIVE and self.state == "closed"):
            return
        good = said is not Verdict.BAD
        self._failures = 0 if good else self._failures + 1
        self._successes = self._successes + 1 if good else 0
        if not good:
            self._fault = next(result for result in results if _verdict(result) is Verdict.BAD)
        if good and self.state == "half_open" and self._successes >= self._rules.half_open_successes:
            self._enter("closed", now)
        elif not good and (self.state == "half_open" or self._failures >= self._rules.failure_threshold):
            healed = self.state == "closed" and now - self.since >= self._rules.heal_s
            self._openings = 1 if healed else self._openings + 1
            self._enter("open", now)

    def told(self, move: Move) -> str | None:
        """What is wrong with a move that was published in this instant, the next of those predicted."""
        if not self.predicted:
            return f"moved to {move.state}, though nothing made it"
        due, self.cause, failures, held_until = self.predicted.pop(0)
        self.shown = move.state
        if move.state != due:
            return f"moved to {move.state}, expected {due}"
        if move.failure_count != failures:
            return f"{move.failure_count} failures, expected {failures}"
        if due != "open":
            return None
        if move.retry_at is None or move.opened_at is None:
            return "open without a time to retry"
        period = from_rfc3339(move.retry_at) - from_rfc3339(move.opened_at)
        self.retry_at = self.since + period
        longest = min(self._rules.open_s * 2 ** (move.open_count - 1), self.open_max_s)
        lower, upper = (max(d, held_until - self.since) for d in (longest / 2, longest))
        if not lower - ROUNDING_S <= period <= upper + ROUNDING_S:
            return f"open for {period:.3f} s, expected {lower:g} to {upper:g}"
        return None if move.open_count == self._openings else f"opened {move.open_count} times, not {self._openings}"

    def _enter(self, state: str, now: float) -> None:
        if state != "half_open":
            self._caused = code(self._fault) if state == "open" else None
        self.state = state
        self.since = now
        self._generation += 1
        self._probe = None
        self.predicted.append((state, self._caused, self._failures, self.hold.until))
