"""The poll schedule: a fixed grid and shared phases."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.instant import Instant
from tidegate.core.polling.schedule import Schedule, Tick

SETTINGS = settings(derandomize=True, deadline=None, database=None)

NOW = 1000.0
INTERVALS = st.sampled_from([0.05, 0.1, 0.3, 1.0, 2.0, 5.0, 7.3, 60.0, 3600.0])
PHASES = st.floats(0, 1, exclude_max=True)


def one(interval_s: float, *, phase: float = 0.0) -> Schedule:
    schedule = Schedule()
    schedule.add("a", interval_s=interval_s, phase=phase, now=NOW)
    return schedule


def next_at(schedule: Schedule) -> float:
    assert schedule.next_at is not None
    return schedule.next_at


def due(schedule: Schedule, now: float) -> list[str]:
    return [tick.name for tick in schedule.take_due(now)]


class TestGrid:
    def test_without_sources_nothing_is_due(self) -> None:
        schedule = Schedule()
        assert schedule.next_at is None
        assert due(schedule, NOW) == []

    def test_the_first_poll_comes_within_a_second(self) -> None:
        assert one(60.0, phase=0.25).next_at == NOW + 0.25

    def test_or_within_a_shorter_interval(self) -> None:
        assert one(0.4, phase=0.5).next_at == NOW + 0.2

    def test_nothing_is_due_before_its_time(self) -> None:
        schedule = one(5.0, phase=0.5)
        assert due(schedule, math.nextafter(NOW + 0.5, 0)) == []
        assert due(schedule, NOW + 0.5) == ["a"]
        assert due(schedule, NOW + 0.5) == []

    def test_the_next_tick_is_in_the_future_though_the_count_of_ticks_was_rounded_down(self) -> None:
        schedule = Schedule()
        schedule.add("a", interval_s=7.0, phase=0.0, now=1.7)
        schedule.set_interval("a", 0.1, 1.7 + 187 * 0.1)
        assert schedule.next_at == 1.7 + 188 * 0.1

    def test_lateness_does_not_add_up(self) -> None:
        schedule = one(5.0)
        for tick in range(1000):
            late = NOW + 5.0 * tick + 4.9
            assert due(schedule, late) == ["a"]
            assert schedule.next_at == NOW + 5.0 * (tick + 1)
        assert schedule.missed("a") == 0

    def test_ticks_do_not_pile_up(self) -> None:
        schedule = one(5.0)
        assert due(schedule, NOW + 52.0) == ["a"]
        assert schedule.next_at == NOW + 55.0
        assert schedule.missed("a") == 10

    def test_a_call_still_under_way_is_a_missed_tick(self) -> None:
        schedule = one(5.0)
        schedule.miss("a")
        schedule.miss("a")
        assert schedule.missed("a") == 2

    def test_a_tick_that_comes_late_says_for_when_it_was_due(self) -> None:
        """Rule 8: whoever sees how late it is knows that this machine slept."""
        schedule = one(5.0, phase=0.5)
        assert schedule.take_due(NOW + 52.0) == [Tick("a", NOW + 0.5)]
        assert schedule.take_due(NOW + 55.6) == [Tick("a", NOW + 55.5)]

    def test_one_interval_and_phase_is_one_burst(self) -> None:
        schedule = Schedule()
        for name in "dbca":
            schedule.add(name, interval_s=2.0, phase=0.5, now=NOW)
        schedule.add("slow", interval_s=60.0, phase=0.5, now=NOW)
        assert due(schedule, NOW + 0.5) == ["a", "b", "c", "d", "slow"]
        assert due(schedule, NOW + 2.5) == ["a", "b", "c", "d"]

    def test_the_longest_due_come_first(self) -> None:
        schedule = Schedule()
        schedule.add("a", interval_s=2.0, phase=0.9, now=NOW)
        schedule.add("b", interval_s=2.0, phase=0.1, now=NOW)
        assert due(schedule, NOW + 1.0) == ["b", "a"]

    def test_a_name_is_added_once(self) -> None:
        with pytest.raises(AssertionError, match="a is in the schedule already"):
            one(1.0).add("a", interval_s=2.0, phase=0.0, now=NOW)

    def test_an_unknown_name_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            one(1.0).next_due("b")


class TestInterval:
    def test_a_slower_pace_keeps_the_anchor(self) -> None:
        schedule = one(5.0, phase=0.5)
        schedule.take_due(NOW + 0.5)
        schedule.set_interval("a", 60.0, NOW + 2.0)
        assert schedule.next_at == NOW + 60.5
        schedule.set_interval("a", 5.0, NOW + 33.0)
        assert schedule.next_at == NOW + 35.5

    def test_the_same_interval_changes_nothing(self) -> None:
        schedule = one(5.0)
        schedule.set_interval("a", 5.0, NOW + 7.0)
        assert schedule.next_at == NOW, "an unseen tick is still due"

    def test_a_first_poll_is_not_put_off(self) -> None:
        schedule = one(5.0, phase=0.5)
        schedule.set_interval("a", 60.0, NOW)
        assert schedule.next_at == NOW + 0.5

    def test_where_it_goes_on_elsewhere_its_grid_is_the_same(self) -> None:
        """Rule 10."""
        schedule = one(60.0, phase=0.5)
        schedule.take_due(NOW + 2.0)
        schedule.set_interval("a", 4.0, NOW + 3.0)
        schedule.miss("a")
        here, there = Instant(NOW + 3.5, 5000.0), Instant(7.0, 5000.0)
        carried, resumed = schedule.carried("a", here), Schedule()
        resumed.resume("a", carried, now=there)
        assert (resumed.next_at, resumed.missed("a")) == (8.0, 1)
        assert resumed.carried("a", there) == carried
        assert resumed.take_due(14.0) == [Tick("a", 8.0)]
        assert (resumed.next_at, resumed.missed("a")) == (16.0, 2)

    def test_changing_pace_holds_no_memory(self) -> None:
        schedule = one(5.0)
        for n in range(1000):
            schedule.set_interval("a", 60.0 + n % 2, NOW + n * 0.01)
            assert len(schedule._heap) <= 2


def test_a_thousand_sources_stay_in_step() -> None:
    schedule = Schedule()
    for n in range(1000):
        schedule.add(f"s{n:04}", interval_s=5.0, phase=0.5, now=NOW)
    expected = sorted(f"s{n:04}" for n in range(1000))
    for tick in range(3):
        assert due(schedule, NOW + 0.5 + 5.0 * tick) == expected


@SETTINGS
@given(INTERVALS, PHASES, st.lists(st.floats(0.0, 3.0), max_size=30))
def test_every_time_lies_on_the_grid_and_in_the_future(interval_s: float, phase: float, lateness: list[float]) -> None:
    schedule = one(interval_s, phase=phase)
    anchor = next_at(schedule)
    for polls, late in enumerate(lateness, start=1):
        now = next_at(schedule) + late * interval_s
        assert due(schedule, now) == ["a"]
        tick = (next_at(schedule) - anchor) / interval_s
        assert now < next_at(schedule) <= now + interval_s * 1.000001
        assert tick == pytest.approx(round(tick), abs=1e-6)
        assert schedule.missed("a") == round(tick) - polls, "each tick is polled or missed"
