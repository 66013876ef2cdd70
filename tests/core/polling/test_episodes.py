"""Reports of a failing source: at once, then at a bounded rate."""

import pytest

from tidegate.core.instant import Instant
from tidegate.core.polling.episodes import ErrorReports, Report
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.errors import ErrorCode

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
LATE = Fault(ErrorCode.RPC_TIMEOUT, "after 2 s", Verdict.FAILURE)


def test_the_first_failure_of_an_episode_is_reported_at_once() -> None:
    assert ErrorReports(30.0).failed(0.0, DOWN) == Report(DOWN, 1, 0)


def test_then_at_most_one_in_each_interval() -> None:
    reports = ErrorReports(30.0)
    reports.failed(100.0, DOWN)
    assert reports.failed(110.0, DOWN) is None
    assert reports.failed(129.9, LATE) is None
    assert reports.failed(130.0, LATE) == Report(LATE, 4, 2)
    assert reports.failed(159.9, DOWN) is None
    assert reports.failed(200.0, DOWN) == Report(DOWN, 6, 1)
    assert reports.failed(229.9, DOWN) is None


def test_a_new_episode_is_reported_at_once_with_all_that_was_suppressed() -> None:
    reports = ErrorReports(30.0)
    reports.failed(0.0, DOWN)
    reports.failed(1.0, DOWN)
    reports.recovered(2.0)
    assert reports.failed(32.0, LATE) == Report(LATE, 1, 1)


def test_an_episode_goes_on_if_the_source_was_well_for_a_moment_only() -> None:
    """Rule 4: a source whose every other call fails is reported no more often than one whose calls all fail."""
    reports = ErrorReports(30.0)
    assert reports.failed(0.0, DOWN) == Report(DOWN, 1, 0)
    reports.recovered(1.0)
    for at in range(2, 30, 2):
        assert reports.failed(float(at), DOWN) is None
        reports.recovered(at + 1.0)
    assert reports.failed(30.0, DOWN) == Report(DOWN, 1, 14)
    reports.recovered(31.0)
    assert reports.failed(60.9, DOWN) == Report(DOWN, 1, 0)
    reports.recovered(61.0)
    assert reports.failed(91.0, DOWN) == Report(DOWN, 1, 0), "well for long enough"


@pytest.mark.parametrize("is_well", [False, True])
def test_an_episode_goes_on_in_another_process(is_well: bool) -> None:
    """Rule 10."""
    here, there = Instant(105.0, 5000.0), Instant(7.0, 5000.0)
    reports = ErrorReports(30.0)
    reports.failed(100.0, DOWN)
    if is_well:
        reports.recovered(102.0)
    resumed = ErrorReports.from_carried(30.0, reports.carried(here), now=there)
    assert resumed.carried(there) == reports.carried(here)
    for at in (10.0, 20.0):
        assert resumed.failed(at, DOWN) == reports.failed(at + 98.0, DOWN) is None
    assert resumed.failed(32.0, DOWN) == reports.failed(130.0, DOWN) is not None


def test_the_run_of_failures_is_counted() -> None:
    reports = ErrorReports(30.0)
    assert reports.consecutive_failures == 0
    reports.failed(0.0, DOWN)
    reports.failed(0.1, DOWN)
    assert reports.consecutive_failures == 2
    reports.recovered(1.0)
    assert reports.consecutive_failures == 0


def test_an_interval_of_zero_reports_everything() -> None:
    reports = ErrorReports(0.0)
    assert [reports.failed(1.0, DOWN) for _ in range(2)] == [Report(DOWN, 1, 0), Report(DOWN, 2, 0)]


def test_a_report_that_nobody_got_counts_as_suppressed_with_all_that_were_since() -> None:
    reports = ErrorReports(30.0)
    first = reports.failed(0.0, DOWN)
    assert first is not None
    assert reports.failed(1.0, DOWN) is None
    reports.refused(first)
    assert reports.failed(2.0, DOWN) == Report(DOWN, 3, 2)
