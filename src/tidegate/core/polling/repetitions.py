"""When a failed call is repeated, between the ticks of its source: soon, then less and less often, within a budget.

One lost packet must not cost a source that is asked once a minute a whole minute. But whoever repeats without a budget
keeps an overloaded backend overloaded. So of one backend one repetition is under way at a time, only with a connection
that nobody waits for, and at a limited rate. Whoever finds no room waits for its next tick.

Times are monotonic. Knows nothing of breakers and holds: who may be asked is decided in `lineup`.
"""

import heapq
from collections.abc import Callable, Sequence

from tidegate.backoff import Backoff
from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.backend_plan import BackendPlan, call_timeout_s
from tidegate.core.polling.source import Source
from tidegate.errors import ErrorCode

SPREAD = 0.2
"""How far the wait may be from what was computed, as a share of it: many clients of one backend must not agree."""

SHARE = 0.1
"""How many repetitions a backend gets, as a share of the calls that it gets at its normal rate."""

LEAST_PER_S = 1.0
"""How many repetitions a second a backend gets however seldom it is asked."""


class Repetitions:
    """The repetitions of one backend. `rate_per_s` is its normal rate of calls."""

    def __init__(self, plan: BackendPlan, *, rate_per_s: float) -> None:
        self.follow(plan, rate_per_s=rate_per_s)
        self._due: list[tuple[float, int, list[Source]]] = []  # a heap
        self._groups: dict[Source, tuple[float, list[Source]]] = {}  # in `_due`, and when
        self._planned = 0
        self._in_flight = False
        self._free_at = LONG_AGO

    def follow(self, plan: BackendPlan, *, rate_per_s: float) -> None:
        """Plan repetitions by another `plan` from now on."""
        self._wait = Backoff(first_s=plan.retry_s, max_s=float("inf"), least=1 - SPREAD, most=1 + SPREAD)
        self._gap_s = 1 / max(LEAST_PER_S, SHARE * rate_per_s)

    @property
    def next_at(self) -> float | None:
        """When the next repetition is due; None if none is planned."""
        while self._due and not self._due[0][2]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    @property
    def waiting(self) -> Sequence[Source]:
        """The sources whose call is going to be repeated."""
        return list(self._groups)

    def due_at(self, source: Source) -> float | None:
        """When the call of `source` is repeated; None if it is not."""
        planned = self._groups.get(source)
        return None if planned is None else planned[0]

    def plan(self, failed: Sequence[Source], *, now: Instant, unreachable: bool, draw: Callable[[], float]) -> None:
        """The calls of `failed`, which were made together, failed `now`: repeat them together.

        Without `unreachable`, a run of failures doubles the wait. Sources that are asked more often than that are left
        out. `draw` returns a random number in [0, 1).
        """
        if not self._wait.first_s or not failed:
            return
        run = 1 if unreachable else min(source.failures for source in failed)
        wait_s = self._wait.delay_s(run, jitter=draw())
        if any(source.failure is ErrorCode.RPC_TIMEOUT for source in failed) and not unreachable:
            wait_s = max(wait_s, call_timeout_s(source.plan for source in failed))
        group = [source for source in failed if wait_s < source.interval_s]
        at = now.mono + wait_s
        if at < self._free_at <= at + SPREAD * self._gap_s:
            at = self._free_at  # nobody is to find no room only because the wait was short by chance
        for source in group:
            self.drop(source)
            self._groups[source] = at, group
        if group:
            self._planned += 1
            heapq.heappush(self._due, (at, self._planned, group))

    def drop(self, source: Source) -> None:
        """`source` is asked for another reason, or must not be asked: its call is not repeated."""
        planned = self._groups.pop(source, None)
        if planned is not None:
            planned[1].remove(source)

    def take_due(self, now: Instant) -> list[list[Source]]:
        """Return the groups whose repetition is due, earliest first. They are planned no longer."""
        groups = []
        while (at := self.next_at) is not None and at <= now.mono:
            group = heapq.heappop(self._due)[2]
            for source in group:
                del self._groups[source]
            groups.append(group)
        return groups

    def begin(self, now: Instant) -> bool:
        """Take the budget of one repetition, if there is any. Return whether that is so. It ends with `ended`."""
        if self._in_flight or now.mono < self._free_at:
            return False
        self._in_flight = True
        self._free_at = now.mono + self._gap_s
        return True

    def ended(self) -> None:
        """The repetition that was under way has ended."""
        self._in_flight = False
