"""When failures of a source are reported as `rpc_error`: the first of an episode at once, then one in so many seconds.

An episode goes on if the source was fresh in between for less than that.
"""

from typing import Any

from simulation.sources import EDGE_S, Source


class Reports:
    """The reports of one source."""

    def __init__(self, source: Source, interval_s: float) -> None:
        self._source = source
        self._interval_s = interval_s
        self._in_row = 0
        self._in_episode = 0
        self._reported_at = float("-inf")
        self._answered_at = float("-inf")

    def ended(self, failure: str | None, reports: list[dict[str, Any]], now: float) -> str | None:
        """A call ended, with this error code or an answer. Takes its report out of `reports`; what is wrong with it."""
        if failure is None:
            if self._in_row:
                self._answered_at = now
            self._in_row = 0
            return None
        may_begin, must_begin = self._begins(now)
        self._in_row += 1
        since = now - self._reported_at - self._interval_s
        may = may_begin or since >= -EDGE_S
        must = must_begin or (since > EDGE_S and not may_begin) or (since > EDGE_S and may_begin)
        self._in_episode += 1
        expected = {self._in_row, self._in_episode}
        if must_begin:
            self._in_episode = 1
            expected = {1}
        elif may_begin:
            expected.add(1)
        if not reports:
            return f"failure {self._in_row} was not reported" if must else None
        if not may:
            return f"failure {self._in_row} was reported {now - self._reported_at:.3f} s after the last report"
        report = reports.pop(0)
        self._reported_at = now
        if report["consecutive_failures"] == 1:
            self._in_episode = 1
        if report["error_code"] != failure or report["consecutive_failures"] not in expected:
            return f"reported {report}, expected failure {sorted(expected)} of {failure}"
        return None

    def _begins(self, now: float) -> tuple[bool, bool]:
        """Whether a failure now may begin an episode, and whether it must."""
        if self._reported_at == float("-inf"):
            return True, True
        if self._in_row:
            return False, False
        longest, shortest = now - self._answered_at, self._fresh_s(now)
        return longest >= self._interval_s - EDGE_S, shortest >= self._interval_s + EDGE_S

    def _fresh_s(self, now: float) -> float:
        """For how long it was told fresh last, since it was answered."""
        turns = [turn for turn in self._source.turns if turn[0] >= self._answered_at - EDGE_S]
        fresh = [index for index, (_, stale) in enumerate(turns) if not stale]
        if not fresh:
            return 0.0
        after = turns[fresh[-1] + 1 :]
        return (after[0][0] if after else now) - turns[fresh[-1]][0]
