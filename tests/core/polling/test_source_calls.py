"""The calls of one source: whether it may be asked, how long it waits after a refused account, what is carried."""

import pytest

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.source_calls import SourceCalls


def at(seconds: float) -> Instant:
    return Instant(seconds, 1_795_000_000.0 + seconds)


def refused(calls: SourceCalls, seconds: float, *, secret: bytes | None = b"old", jitter: float = 0.0) -> float:
    """Its account is refused. Returns how long it waits."""
    calls.refused(secret, at(seconds), lambda: jitter)
    return calls.waits_until - seconds


def test_it_may_be_asked_if_it_is_not_being_asked_and_does_not_wait() -> None:
    calls = SourceCalls()
    assert calls.may_begin(at(0.0))
    calls.in_flight = True
    assert not calls.may_begin(at(0.0))
    calls.end_turn()
    assert calls.may_begin(at(0.0))
    refused(calls, 10.0)
    assert [(calls.may_begin(at(now)), calls.waits(at(now))) for now in (12.4, 12.5)] == [(False, True), (True, False)]


def test_after_a_refused_account_it_waits_longer_and_longer_up_to_five_minutes() -> None:
    """Rule 3: 5, 10, 20 ... 300 s, whatever the breaker's open periods are; each in the upper half of that."""
    calls = SourceCalls()
    assert [refused(calls, 10.0) for _ in range(9)] == [2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 150.0, 150.0, 150.0]
    calls.refusals = 0
    assert refused(calls, 10.0, jitter=0.5) == 3.75
    assert (calls.refusals, calls.refused_secret) == (1, b"old")


def test_a_wait_that_ends_early_is_longer_if_the_account_is_refused_again() -> None:
    calls = SourceCalls()
    refused(calls, 10.0)
    calls.end_wait()
    assert (calls.may_begin(at(10.1)), refused(calls, 10.2)) == (True, 5.0)


def test_it_knows_when_it_was_asked_between_two_ticks() -> None:
    """Rule 6."""
    calls = SourceCalls()
    assert (calls.last_sent, calls.last_off_grid) == (LONG_AGO, LONG_AGO)
    calls.sent(at(10.0), at_tick=True, timeout_s=2.0)
    assert (calls.last_sent, calls.last_off_grid) == (10.0, LONG_AGO)
    calls.sent(at(13.0), at_tick=False, timeout_s=2.0)
    calls.sent(at(20.0), at_tick=True, timeout_s=2.0)
    assert (calls.last_sent, calls.last_off_grid) == (20.0, 13.0)


def test_a_tick_that_was_refused_is_made_good_by_the_next_call() -> None:
    """Rule 5."""
    calls = SourceCalls()
    calls.tick_refused = True
    calls.sent(at(10.0), at_tick=False, timeout_s=2.0)
    assert not calls.tick_refused


def test_a_call_has_to_end_after_its_timeout() -> None:
    calls = SourceCalls()
    calls.sent(at(10.0), at_tick=True, timeout_s=2.0)
    assert [calls.end.is_past_deadline(at(now)) for now in (11.9, 12.0)] == [False, True]
    calls.end_turn()
    assert not calls.end.is_past_deadline(at(99.0))


@pytest.mark.parametrize("used", [False, True])
def test_it_goes_on_in_another_process_but_for_the_call_under_way_and_secrets(used: bool) -> None:
    """Rule 10."""
    here, there = Instant(512.0, 5000.0), Instant(4.0, 5000.0)
    calls = SourceCalls()
    if used:
        calls.sent(Instant(500.0, 0.0), at_tick=False, timeout_s=2.0)
        calls.sent(Instant(510.0, 0.0), at_tick=True, timeout_s=2.0)
        refused(calls, 511.0)
        calls.tick_refused = calls.failed_alone = calls.in_flight = True
    carried = calls.carried(here)
    resumed = SourceCalls.from_carried(carried, now=there)
    assert resumed.carried(there) == carried
    if used:
        assert (resumed.last_sent, resumed.last_off_grid, resumed.waits_until) == (2.0, -8.0, 5.5)
        assert (resumed.tick_refused, resumed.failed_alone, resumed.refusals) == (True, True, 1)
    else:
        assert (resumed.last_sent, resumed.last_off_grid, resumed.waits_until) == (LONG_AGO, LONG_AGO, LONG_AGO)
    assert (resumed.in_flight, resumed.refused_secret, resumed.end.is_past_deadline(there)) == (False, None, False)
