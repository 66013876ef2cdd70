"""Counts how the calls behind a breaker ended, and says when that is a reason for it to move.

It owns the runs of failures and successes, the window of `failure_rate`, and what is not counted: the repetitions of
one source's call while no other source fails. It knows nothing of probes, open periods and holds.
"""

import msgspec

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker_data import BreakerData
from tidegate.core.polling.breaker_runs import Run
from tidegate.core.polling.breaker_values import BreakerRules, LastFailure, Mode, Reason
from tidegate.core.polling.outcome import Fault, Verdict

WITNESS_AT = 3
"""At which failure in a row of one source another source of the breaker is asked."""


class Counting:
    """Counts for one breaker, in its `data`."""

    def __init__(self, data: BreakerData, rules: BreakerRules) -> None:
        self._data = data
        self._rules = rules

    def count(
        self,
        verdict: Verdict,
        fault: Fault | None,
        *,
        came_from: frozenset[str],
        failed: frozenset[str],
        repeats: bool,
        now: Instant,
    ) -> Reason | None:
        """Count the end of a call. Return why the breaker closes or opens now; None if it stays as it is.

        The arguments are those of `Breaker.record`.
        """
        match verdict:
            case Verdict.IGNORED:
                return None
            case Verdict.ALIVE:
                # The backend answered, but refused this one call. While closed that neither ends nor continues a run of
                # failures. A probe only asks whether the backend is there, and it is.
                self._data.unreachable = False
                return self._succeeded(now) if self._data.mode is Mode.HALF_OPEN else None
            case Verdict.SUCCESS:
                return self._succeeded(now)
            case Verdict.FAILURE:
                if not self._continue_run(failed, repeats, now):
                    return None
                if fault:
                    self._data.last_error = LastFailure(fault.code, fault.message, now.wall, came_from)
                    self._data.last_error_at = now
                self._data.unreachable = fault is not None and fault.unreachable
                return self._reason_to_open()

    @property
    def wants_witness(self) -> bool:
        """Whether another source must say whether the backend or the one source that fails is broken."""
        run = self._data.run
        return run.uncounted > 0 and self._data.failures + run.uncounted == WITNESS_AT

    def heal(self, now: Instant) -> None:
        """Forget the openings once closed for long enough, so that a flapping backend keeps its back-off."""
        if self._data.mode is Mode.CLOSED and now.mono - self._data.since.mono >= self._rules.heal_s:
            self._data.openings = 0
            self._data.episode = None

    def _succeeded(self, now: Instant) -> Reason | None:
        self._data.unreachable = False
        self._data.run = Run()
        self._tally(now, failed=False)
        enough = self._data.successes >= self._rules.half_open_successes
        return Reason.PROBE_SUCCEEDED if self._data.mode is Mode.HALF_OPEN and enough else None

    def _continue_run(self, failed: frozenset[str], repeats: bool, now: Instant) -> bool:
        """Sources have `failed` once more. Return whether that counts."""
        data = self._data
        run = msgspec.structs.replace(
            data.run,
            began=now.mono if data.run.began == LONG_AGO else data.run.began,
            came_from=data.run.came_from | failed,
        )
        if repeats and data.mode is Mode.CLOSED and len(run.came_from) == 1:
            data.run = msgspec.structs.replace(run, uncounted=run.uncounted + 1)
            return False
        counts = 1
        if len(run.came_from) > 1:  # not one source is broken, so what was not counted counts now
            counts += run.uncounted
            run = msgspec.structs.replace(run, uncounted=0)
        data.run = run
        for _ in range(counts):
            self._tally(now, failed=True)
        return True

    def _tally(self, now: Instant, *, failed: bool) -> None:
        self.heal(now)
        data = self._data
        data.failures = data.failures + 1 if failed else 0
        data.successes = 0 if failed else data.successes + 1
        if self._rules.failure_rate is not None:
            data.window.add(now.mono, failed=failed)

    def _reason_to_open(self) -> Reason | None:
        rules, data = self._rules, self._data
        match data.mode:
            case Mode.HALF_OPEN:
                return Reason.PROBE_FAILED
            case Mode.CLOSED if data.failures >= rules.failure_threshold:
                return Reason.FAILURE_THRESHOLD
            case Mode.CLOSED if rules.failure_rate is not None and len(data.window) >= rules.rate_minimum_calls:
                return Reason.FAILURE_RATE if data.window.failure_rate >= rules.failure_rate else None
            case _:
                return None
