"""When the failures of a source are reported: the first at once, then at a bounded rate, and finally its recovery.

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
    """A failure to report. `suppressed` counts the failures since the last report that were not reported.

    `is_news` is whether the log has not said yet that the source fails, or has said since that it has recovered.
    """

    fault: Fault
    consecutive_failures: int
    suppressed: int
    is_news: bool = True


class Recovery(msgspec.Struct, frozen=True):
    """The end of a run of failures: how many, and the seconds since the episode began."""

    failures: int
    duration_s: float


class ErrorReports:
    """The episodes of one source. After the first failure of each, there is at most one report in `interval_s`.

    A source must be well for `interval_s` to end an episode.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._failures = 0
        self._suppressed = 0
        self._began_at = LONG_AGO  # these two are of the current episode
        self._reported_at = LONG_AGO
        self._well_since = LONG_AGO
        self._log_says_failing = False

    @classmethod
    def from_carried(cls, interval_s: float, carried: CarriedReports, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off."""
        resumed = cls(interval_s)
        resumed._failures = carried.failures
        resumed._suppressed = carried.suppressed
        resumed._began_at = resumed_time(carried.began_at, now)
        resumed._reported_at = resumed_time(carried.reported_at, now)
        resumed._well_since = resumed_time(carried.well_since, now)
        resumed._log_says_failing = carried.log_says_failing
        return resumed

    def carried(self, now: Instant) -> CarriedReports:
        """The whole state at `now`."""
        return CarriedReports(
            failures=self._failures,
            suppressed=self._suppressed,
            began_at=carried_time(self._began_at, now),
            reported_at=carried_time(self._reported_at, now),
            well_since=carried_time(self._well_since, now),
            log_says_failing=self._log_says_failing,
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
        if self._failures == 1 and now >= self._well_since + self._interval_s:
            self._began_at = now
        elif now < self._reported_at + self._interval_s:
            self._suppressed += 1
            return None
        report = Report(fault, self._failures, self._suppressed, is_news=not self._log_says_failing)
        self._log_says_failing = True
        self._reported_at = now
        self._suppressed = 0
        return report

    def refused(self, report: Report) -> None:
        """Nobody was told `report`: it counts as suppressed, and the next failure of its episode is reported."""
        if self._failures >= report.consecutive_failures:
            self._suppressed += report.suppressed + 1
            self._reported_at = LONG_AGO

    def recovered(self, now: float) -> Recovery | None:
        """A good answer came at `now`. Return the end of the run of failures that the log told of, if there was one."""
        if not self._failures:
            return None
        failures, self._failures = self._failures, 0
        self._well_since = now
        was_told, self._log_says_failing = self._log_says_failing, False
        return Recovery(failures, now - self._began_at) if was_told else None
