import pytest

from tidegate.engine.pace import MIN_SPAN_S, WINDOW_S, Pace


def paced(*marks: tuple[float, int]) -> Pace:
    pace = Pace()
    for now, position in marks:
        pace.mark(position, now=now)
    return pace


def test_nothing_is_known_at_first() -> None:
    assert Pace().rate is None
    assert Pace().eta_s(10) is None
    assert paced((5.0, 100)).rate is None


def test_a_rate_needs_a_span() -> None:
    assert paced((5.0, 100), (5.0 + MIN_SPAN_S * 0.9, 200)).rate is None
    assert paced((5.0, 100), (5.0 + MIN_SPAN_S, 200)).rate == pytest.approx(100 / MIN_SPAN_S)


def test_a_rate_is_over_the_window() -> None:
    assert paced((0.0, 0), (1.0, 1000), (1.0 + WINDOW_S, 1000 + 50)).rate == pytest.approx(50 / WINDOW_S)


def test_what_has_stopped_slows_down_to_nothing() -> None:
    pace = paced((0.0, 0), (1.0, 100))
    for second in range(2, 10):
        pace.mark(100, now=float(second))
    assert pace.rate == 0
    assert pace.eta_s(200) is None


def test_what_is_left_takes_as_long_as_the_rate_says() -> None:
    pace = paced((0.0, 0), (2.0, 100))
    assert pace.eta_s(150) == pytest.approx(1.0)
    assert pace.eta_s(50) == 0.0


def test_going_back_begins_anew() -> None:
    pace = paced((0.0, 0), (2.0, 100), (3.0, 10))
    assert pace.rate is None
    pace.mark(20, now=4.0)
    assert pace.rate == pytest.approx(10.0)
