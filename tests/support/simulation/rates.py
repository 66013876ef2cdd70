"""How many calls a backend gets beside its ticks: repetitions and catching up, each with its own bound.

Nobody outside is told why a call is made. It is guessed from when it comes, only where that is safe: where no source
has to wait for a connection, a call on the grid is a tick, and any other has one of the reasons of `Kind`.
"""

import enum
from collections import deque
from collections.abc import Sequence

from simulation.sources import EDGE_S, Source
from simulation.tap import Exchange
from tidegate.config import BackendConfig

LEAST_A_SECOND = 20.0
"""Calls of catching up a second, if four times the normal rate is less."""

JITTER = 0.2
POKED_S = 10.0


class Kind(enum.Enum):
    """Why a call was made."""

    TICK = "its tick"
    PROBE = "a breaker that is not closed"
    POKED = "a poke"
    CATCHING_UP = "it could not be asked before"
    AFTER_HOLD = "it was not to be asked before"
    AGAIN = "its last call failed"
    OTHER = "something else"
    UNSURE = "nobody can tell"


class Rates:
    """The calls of one backend. `normal` is how many its ticks are a second."""

    def __init__(self, settings: BackendConfig, sources: Sequence[Source], pokes: Sequence[float]) -> None:
        intervals = [source.settings.interval_s for source in sources]
        self.normal = sum(1 / interval_s for interval_s in (set(intervals) if settings.batch else intervals))
        self.cap = max(LEAST_A_SECOND, 4 * self.normal)
        self.woke_at = float("-inf")
        self._settings = settings
        self._sources = sources
        self._pokes = pokes
        self._is_sure = settings.connections >= len(sources)
        self._kinds: dict[Exchange, Kind] = {}
        self._caught_up: deque[float] = deque()
        self._made_up_at = float("-inf")
        self._repeated_at = float("-inf")
        self._answers: deque[float] = deque(maxlen=100)

    def started(self, exchange: Exchange, sources: Sequence[Source], now: float) -> str | None:
        """A call starts, after its breaker was told; what is wrong with that."""
        kind = self._kinds[exchange] = self._kind(sources, now)
        match kind:
            case Kind.TICK:
                return self._wrong_tick(sources[0], now)
            case Kind.AGAIN:
                return self._wrong_repetition(sources, now)
            case Kind.CATCHING_UP:
                return self._wrong_catching_up(sources, now)
            case Kind.AFTER_HOLD:
                before, self._made_up_at = self._made_up_at, now
                if now - before < 0.9 / max(1.0, self.normal) and before > sources[0].model.hold.until:
                    return f"asked {now - before:.3f} s after another, after a hold"
        return None

    def ended(self, exchange: Exchange, *, answered: bool) -> Kind:
        """A call ended. Return why it was made."""
        if answered and exchange.ended is not None:
            self._answers.append(exchange.ended)
        return self._kinds.pop(exchange)

    def _kind(self, sources: Sequence[Source], now: float) -> Kind:
        if any(source.last_started == float("-inf") or source.is_on_grid(now) for source in sources):
            return Kind.TICK
        if sources[0].model.state != "closed":
            return Kind.PROBE
        if not self._is_sure or any(source.anchor is None for source in sources):
            return Kind.UNSURE
        asked_at = max(source.last_started for source in sources)
        if any(asked_at - EDGE_S <= at <= now and at > now - POKED_S for at in self._pokes):
            return Kind.POKED
        if self._is_witness(sources, now):
            return Kind.OTHER
        hold = sources[0].model.hold
        closed_at = max(sources[0].model.closed_at[-1:], default=float("-inf"))
        if hold.until <= now and max(asked_at, closed_at, self.woke_at) < hold.until:
            return Kind.AFTER_HOLD
        if asked_at <= max(closed_at, self.woke_at):
            return Kind.CATCHING_UP
        if any(source.account.refusals for source in sources):
            return Kind.OTHER
        return Kind.AGAIN if all(source.in_row for source in sources) else Kind.OTHER

    def _is_witness(self, sources: Sequence[Source], now: float) -> bool:
        """Whether another source behind their breaker has just failed: they may be asked whether they fail, too."""
        others = (s for s in self._sources if s not in sources and s.model is sources[0].model)
        return any(other.in_row and now - other.last_ended < EDGE_S for other in others)

    def _wrong_tick(self, source: Source, now: float) -> str | None:
        """A tick soon after a call off the grid makes no call."""
        if not self._is_sure or source.anchor is None or not source.was_off_grid or source.account.refusals:
            return None
        if source.model.state != "closed":
            return None
        if any(abs(at - now) < EDGE_S for at in [*self._pokes, *source.model.closed_at[-1:]]):
            return None  # it is asked for another reason
        if abs(source.last_started - self.woke_at) < EDGE_S:
            return None  # that was for a tick that a machine that slept had missed
        since = now - source.last_started
        if since < source.settings.interval_s / 2 - source.timeout_s - EDGE_S:
            return f"asked at its tick, {since:.3f} s after a call off the grid"
        return None

    def _wrong_repetition(self, sources: Sequence[Source], now: float) -> str | None:
        running = [each for each, kind in self._kinds.items() if kind is Kind.AGAIN]
        before, self._repeated_at = self._repeated_at, now
        retry_s = self._settings.retry_s
        if not retry_s:
            return "asked again before its tick, though repetitions are off"
        if len(running) > 1:
            return f"repeated beside the repetition of {running[0].methods}"
        if now - before < 1 / max(1.0, self.normal / 10) - EDGE_S:
            return f"repeated {now - before:.3f} s after another repetition of its backend"
        first = min(sources, key=lambda source: source.in_row)
        wait_s = retry_s if first.failed_unreachable else retry_s * 2.0 ** (first.in_row - 1)
        if first.after.failure == "RPC_TIMEOUT" and not first.failed_unreachable:
            wait_s = max(wait_s, first.timeout_s)
        since = now - max(source.last_ended for source in sources)
        if since < (1 - JITTER) * wait_s - EDGE_S:
            return f"repeated {since:.3f} s after failure {first.in_row}, expected at least {(1 - JITTER) * wait_s:.3f}"
        if wait_s * (1 - JITTER) >= first.settings.interval_s:
            return f"repeated, though that waits for longer than its interval, {first.settings.interval_s:g} s"
        return None

    def _wrong_catching_up(self, sources: Sequence[Source], now: float) -> str | None:
        caught_up = self._caught_up
        caught_up.append(now)
        while caught_up[0] < now - 1.0:
            caught_up.popleft()
        if len(caught_up) > self.cap + 1:
            return f"{len(caught_up)} calls of catching up in a second, expected at most {self.cap:g}"
        running = sum(kind is Kind.CATCHING_UP for kind in self._kinds.values())
        since = max([*sources[0].model.closed_at[-1:], self.woke_at])
        answers = sum(at >= since for at in self._answers)
        repetitions = 1 if since == self.woke_at else 0  # one may have been due while the machine slept
        if running > 1 + answers + repetitions:
            return f"{running} calls of catching up at once, after {answers} answers"
        return None
