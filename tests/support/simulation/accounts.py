"""How often a backend is asked with an account that it refuses: seldom, so that none is locked.

After `RPC_AUTH` a source waits. Two things end that early: a secret with other bytes, and a poke. Then one source is
asked, and the others follow once that was answered. Nothing else ends it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter

from simulation.tap import Exchange

FIRST_S, LONGEST_S = 5.0, 300.0
POKED_S = 60.0
"""How often a poke ends a wait."""

ROUNDING_S = 0.002


class Account:
    """One source's standing. It may be asked again from `earliest` on, and is able to by `able_at`."""

    def __init__(self) -> None:
        self.refusals = 0
        self.earliest = float("-inf")
        self.waits: list[tuple[float, float]] = []
        """When it was refused, and by when it could be asked again."""
        self._refused_at = float("-inf")

    @property
    def able_at(self) -> float:
        return self.waits[-1][1] if self.waits else float("-inf")

    @property
    def refused_at(self) -> float:
        return self.waits[-1][0] if self.waits else float("-inf")

    def refused(self, at: float) -> None:
        self.refusals += 1
        wait = min(FIRST_S * 2 ** (self.refusals - 1), LONGEST_S)
        self.earliest = at + wait / 2
        self.waits.append((at, at + wait))

    def answered(self) -> None:
        self.refusals = 0
        self.earliest = float("-inf")

    def was_refused(self, at: float) -> bool:
        return any(refused_at == at for refused_at, _ in self.waits)


class Accounts:
    """Those of all sources of one backend, which share one secret.

    `pokes` are when the backend was poked, `reads` when the secret was read, and what it was.
    """

    def __init__(self, pokes: Sequence[float], reads: Sequence[tuple[float, bytes | None]]) -> None:
        self._pokes = pokes
        self._reads = reads
        self._of: dict[str, Account] = {}
        self._refused: set[bytes | None] = set()
        self._scout: Exchange | None = None
        self._passed_at = float("-inf")
        self._poked_at = float("-inf")

    def __getitem__(self, event_type: str) -> Account:
        return self._of.setdefault(event_type, Account())

    def started(self, event_types: Sequence[str], exchange: Exchange, now: float) -> str | None:
        """A call starts for these sources; what is wrong with that."""
        early = [name for name in event_types if now < self[name].earliest - ROUNDING_S]
        for name in event_types:
            self[name].earliest = float("-inf")
        if not early or all(self._passed_at >= self[name].refused_at for name in early):
            return None
        since = min(self[name].refused_at for name in early)
        if len(early) > 1:
            return f"{early} are asked together while their account is refused"
        if self._scout is not None:
            return f"{early} is asked beside {self._scout.methods}, while their account is refused"
        if self._read_another(since, now) or self._poked(since, now):
            self._scout = exchange
            return None
        return f"{early}: asked before its time, {now - since:.3f} s after the same secret was refused"

    def ended(self, event_types: Sequence[str], refused: Sequence[bool], exchange: Exchange, answered: bool) -> None:
        """A call ended: for these sources, with their account refused or not; whether any was answered."""
        assert exchange.ended is not None
        if any(refused):
            self._refused = {exchange.secret}
        for name, is_refused in zip(event_types, refused, strict=True):
            if is_refused:
                self[name].refused(exchange.ended)
        if exchange is self._scout:
            self._scout = None
        if not any(refused) and answered:
            self._refused.discard(exchange.secret)
            self._passed_at = exchange.ended

    def _read_another(self, since: float, now: float) -> bool:
        """Whether another secret than the one that was refused has been read."""
        first, end = (bisect_left(self._reads, at, key=itemgetter(0)) for at in (since, now + ROUNDING_S))
        return any(secret not in self._refused for _, secret in self._reads[first:end])

    def _poked(self, since: float, now: float) -> bool:
        """Whether a poke has ended a wait that began at `since`; it is used up by that."""
        for at in self._pokes:
            if max(since, self._poked_at + POKED_S) - ROUNDING_S <= at <= now + ROUNDING_S:
                self._poked_at = at
                return True
        return False
