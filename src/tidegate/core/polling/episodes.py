"""When clients are told of the failures of a source: of the first at once, then at a bounded rate.

An episode is a run of failures of one source. It goes on if the source is well only for a moment in between: a source
that fails every other time is reported no more often than one that always fails. Times are in seconds of the monotonic
clock.
"""

from typing import Self

import msgspec

from tidegate.core.instant import LONG_AGO, Instant, carried_time, resumed_time
from tidegate.core.polling.carried import CarriedReports
from tidegate.core.polling.outcome import Fault


class Report(msgspec.Struct, frozen=True):
    """A failure to report. `suppressed` counts the failures since the last report that were not reported."""

    fault: Fault
    consecutive_failures: int
    suppressed: int


class ErrorReports:
    """The episodes of one source. After the first failure of each, there is at most one report in `interval_s`.

    A source must be well for `interval_s` to end an episode.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._failures = 0
        self._suppressed = 0
        self._reported_at = LONG_AGO
        self._well_since = LONG_AGO

    @classmethod
    def from_carried(cls, interval_s: float, carried: CarriedReports, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off."""
        resumed = cls(interval_s)
        resumed._failures = carried.failures
        resumed._suppressed = carried.suppressed
        resumed._reported_at = resumed_time(carried.reported_at, now)
        resumed._well_since = resumed_time(carried.well_since, now)
        return resumed

    def carried(self, now: Instant) -> CarriedReports:
        """The whole state at `now`."""
        return CarriedReports(
            failures=self._failures,
            suppressed=self._suppressed,
            reported_at=carried_time(self._reported_at, now),
            well_since=carried_time(self._well_since, now),
        )

    def follow(self, interval_s: float) -> None:
        """Report at most once in `interval_s` from now on."""
        self._interval_s = interval_s

    @property
    def consecutive_failures(self) -> int:
        """The failures since the last good answer."""
        return self._failures

    def failed(self, now: float, fault: Fault) -> Report | None:
        """A call failed at `now`. Return a report, unless there was one too recently in this episode."""
        self._failures += 1
        begins = self._failures == 1 and now >= self._well_since + self._interval_s
        if not begins and now < self._reported_at + self._interval_s:
            self._suppressed += 1
            return None
        report = Report(fault, self._failures, self._suppressed)
        self._reported_at = now
        self._suppressed = 0
        return report

    def refused(self, report: Report) -> None:
        """Nobody was told `report`: it counts as suppressed, and the next failure of its episode is reported."""
        if self._failures >= report.consecutive_failures:
            self._suppressed += report.suppressed + 1
            self._reported_at = LONG_AGO

    def recovered(self, now: float) -> None:
        """A good answer came at `now`."""
        if self._failures:
            self._failures = 0
            self._well_since = now
