"""What a backend asked for: to be left alone until when."""

from collections.abc import Sequence

from simulation.tap import Exchange
from simulation.verdicts import Result, Verdict, verdict
from tidegate.config import BackendConfig
from tidegate.errors import HttpStatus

HOLDING_STATUSES = {429, 503}
FIRST_S, LONGEST_S = 5.0, 300.0
"""How long a 429 without a wish holds, doubled each time, and the longest that it does."""


class Hold:
    """The hold of one backend. `states` are when it ended before this instant, and after each call that ended in it."""

    def __init__(self, settings: BackendConfig) -> None:
        self.states = [float("-inf")]
        self.spans: list[tuple[float, float]] = []
        self._believed_s = settings.retry_after_max_s
        self._too_many = 0

    @property
    def until(self) -> float:
        return self.states[-1]

    def begin_instant(self) -> None:
        del self.states[:-1]

    def ended(self, exchange: Exchange, results: Sequence[Result]) -> None:
        """A call ended with these `results`, maybe with ``Retry-After``."""
        assert exchange.ended is not None
        at = exchange.ended
        wish = min(self._wish_s(results, at), self._believed_s)
        if wish and at + wish > self.until:
            self.states.append(at + wish)
            self.spans.append((at, self.until))

    def was_on(self, start: float, end: float) -> bool:
        """Whether the backend was to be left alone at any time between these two."""
        return any(since < end and until > start for since, until in self.spans)

    def _wish_s(self, results: Sequence[Result], at: float) -> float:
        refusals = [r for r in results if isinstance(r, HttpStatus) and r.status in HOLDING_STATUSES]
        wish = max((refusal.retry_after_s or 0.0 for refusal in refusals), default=0.0)
        if not wish and any(refusal.status == 429 for refusal in refusals):
            # Calls that were under way together are refused together.
            self._too_many += at >= self.until
            wish = min(FIRST_S * 2 ** max(0, self._too_many - 1), LONGEST_S)
        elif verdict(results) is Verdict.GOOD:
            self._too_many = 0
        return wish
