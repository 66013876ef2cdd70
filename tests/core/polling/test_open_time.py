from tidegate.core.instant import Instant
from tidegate.core.polling.open_time import OpenTime


def test_only_the_time_in_which_it_was_open_counts() -> None:
    time = OpenTime()
    seen = [
        time.noted(Instant(mono, 0.0), is_open=is_open)
        for mono, is_open in [(1.0, False), (5.0, True), (7.0, True), (8.5, False), (20.0, True), (21.0, False)]
    ]
    assert seen == [0.0, 0.0, 2.0, 3.5, 3.5, 4.5]


def test_of_one_that_is_open_already_the_time_before_does_not_count() -> None:
    time = OpenTime()
    assert time.noted(Instant(1000.0, 0.0), is_open=True) == 0.0
    assert time.noted(Instant(1002.0, 0.0), is_open=True) == 2.0
