"""When the failures of a source are reported: the first at once, then at a bounded rate, and finally its recovery.

An episode is a run of failures of one source. Times are in seconds of the monotonic clock.
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


class Recovery(msgspec.Struct, frozen=True):
    """The end of an episode: its failures, and the seconds since the first of them."""

    failures: int
    duration_s: float


class ErrorReports:
    """The episodes of one source. After the first failure of each, there is at most one report in `interval_s`."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._failures = 0
        self._suppressed = 0
        self._began_at: float  # these two are of the current episode
        self._reported_at: float

    @classmethod
    def from_carried(cls, interval_s: float, carried: CarriedReports, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off."""
        resumed = cls(interval_s)
        resumed._failures = carried.failures
        resumed._suppressed = carried.suppressed
        if carried.began_at is not None:
            resumed._began_at = now.when(carried.began_at).mono
        resumed._reported_at = resumed_time(carried.reported_at, now)
        return resumed

    def carried(self, now: Instant) -> CarriedReports:
        """The whole state at `now`."""
        if not self._failures:
            return CarriedReports(0, self._suppressed, None, None)
        reported_at = carried_time(self._reported_at, now)
        return CarriedReports(self._failures, self._suppressed, now.wall_at(self._began_at), reported_at)

    @property
    def consecutive_failures(self) -> int:
        """Failures of the current episode; 0 between episodes."""
        return self._failures

    def failed(self, now: float, fault: Fault) -> Report | None:
        """A call failed at `now`. Return a report, unless there was one too recently in this episode."""
        self._failures += 1
        if self._failures == 1:
            self._began_at = now
        elif now < self._reported_at + self._interval_s:
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

    def recovered(self, now: float) -> Recovery | None:
        """A good answer came at `now`. Return the end of the episode; None if there was none."""
        if not self._failures:
            return None
        recovery = Recovery(self._failures, now - self._began_at)
        self._failures = 0
        return recovery
