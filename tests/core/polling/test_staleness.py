"""Stale seconds equal those of an observer who looks all the time, whenever the figures are read."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.instant import Instant
from tidegate.core.polling.staleness import Staleness

WALL = 1_700_000_000.0


def at(seconds: float, set_by: float = 0.0) -> Instant:
    return Instant(seconds, WALL + seconds + set_by)


def test_it_is_stale_from_the_first_moment() -> None:
    staleness = Staleness(at(10.0))
    assert staleness.stale_s(at(13.5)) == 3.5
    assert staleness.edge(at(13.5)) == WALL + 10.0


def test_while_fresh_it_says_until_when() -> None:
    staleness = Staleness(at(0.0))
    staleness.note(at(1.0), at(11.0))
    assert staleness.stale_s(at(5.0)) == 1.0
    assert staleness.edge(at(5.0)) == WALL + 11.0


def test_staleness_that_begins_by_age_is_counted_from_then_on_though_nobody_looked() -> None:
    staleness = Staleness(at(0.0))
    staleness.note(at(0.0), at(10.0))
    assert staleness.stale_s(at(25.0)) == 15.0
    assert staleness.edge(at(25.0)) == WALL + 10.0
    staleness.note(at(30.0), None)
    assert staleness.edge(at(30.0)) == WALL + 10.0
    staleness.note(at(40.0), at(50.0))
    assert staleness.stale_s(at(45.0)) == 30.0


def test_staleness_that_begins_with_a_failure_begins_there() -> None:
    staleness = Staleness(at(0.0))
    staleness.note(at(0.0), at(10.0))
    staleness.note(at(4.0), None)
    staleness.note(at(12.0), None)
    assert staleness.edge(at(20.0)) == WALL + 4.0
    assert staleness.stale_s(at(20.0)) == 16.0


def test_an_edge_follows_the_wall_clock_when_that_is_set() -> None:
    staleness = Staleness(at(0.0))
    staleness.note(at(4.0), at(9.0))
    assert staleness.edge(at(5.0, set_by=3600.0)) == WALL + 3609.0
    assert staleness.stale_s(at(19.0, set_by=3600.0)) == 14.0


@given(
    st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(1, 12)), st.booleans()), max_size=30),
)
def test_seconds_equal_those_of_an_observer_of_every_second(steps: list[tuple[int, int | None, bool]]) -> None:
    staleness, now, observed = Staleness(at(0)), 0, 0
    fresh_until = 0  # what the observer knows: fresh before this second
    for wait, fresh_for, looks in steps:
        observed += sum(second >= fresh_until for second in range(now, now + wait))
        now += wait
        if looks:
            assert staleness.stale_s(at(now)) == observed
        fresh_until = now if fresh_for is None else now + fresh_for
        staleness.note(at(now), None if fresh_for is None else at(fresh_until))
    assert staleness.stale_s(at(now)) == observed
