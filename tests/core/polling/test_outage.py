"""How long an outage lasted: from the first failed call to the last source that is fresh again."""

from tidegate.core.instant import Instant
from tidegate.core.polling.outage import Outage


def at(seconds: float) -> Instant:
    return Instant(seconds, 1_795_000_000.0 + seconds)


def test_it_lasts_from_the_first_failure_to_the_last_answer() -> None:
    outage = Outage()
    outage.begin(10.0)
    outage.answered(at(30.0))
    outage.answered(at(31.5))
    assert outage.is_on
    assert outage.end() == 21.5
    assert not outage.is_on


def test_without_one_there_is_nothing_to_measure() -> None:
    outage = Outage()
    outage.answered(at(30.0))
    assert not outage.is_on


def test_a_breaker_that_opens_again_goes_on_with_it() -> None:
    outage = Outage()
    outage.begin(10.0)
    outage.answered(at(12.0))
    outage.begin(20.0)
    outage.answered(at(25.0))
    assert outage.end() == 15.0


def test_if_nothing_was_answered_it_took_no_time() -> None:
    """An operator has closed the breaker."""
    outage = Outage()
    outage.begin(10.0)
    assert outage.end() == 0.0


def test_the_next_one_begins_anew() -> None:
    outage = Outage()
    outage.begin(10.0)
    outage.end()
    outage.begin(100.0)
    outage.answered(at(101.0))
    assert outage.end() == 1.0
