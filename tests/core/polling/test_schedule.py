"""The poll schedule: a fixed grid, shared phases, and what leaves it for a while."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.polling.schedule import Schedule

SETTINGS = settings(derandomize=True, deadline=None, database=None)

NOW = 1000.0
INTERVALS = st.sampled_from([0.05, 0.1, 0.3, 1.0, 2.0, 5.0, 7.3, 60.0, 3600.0])
PHASES = st.floats(0, 1, exclude_max=True)
SHARES = st.floats(0, 1, exclude_max=True)


def one(interval_s: float, *, phase: float = 0.0) -> Schedule:
    schedule = Schedule()
    schedule.add("a", interval_s=interval_s, phase=phase, now=NOW)
    return schedule


def next_at(schedule: Schedule) -> float:
    assert schedule.next_at is not None
    return schedule.next_at


def drain(schedule: Schedule, until: float) -> list[tuple[float, str]]:
    """Everything that is due up to `until`, asked for exactly on time."""
    seen = []
    while (at := next_at(schedule)) <= until:
        seen += [(at, name) for name in schedule.take_due(at)]
    return seen


class TestGrid:
    def test_without_sources_nothing_is_due(self) -> None:
        schedule = Schedule()
        assert schedule.next_at is None
        assert schedule.take_due(NOW) == []

    def test_the_first_poll_comes_within_a_second(self) -> None:
        assert one(60.0, phase=0.25).next_at == NOW + 0.25

    def test_or_within_a_shorter_interval(self) -> None:
        assert one(0.4, phase=0.5).next_at == NOW + 0.2

    def test_nothing_is_due_before_its_time(self) -> None:
        schedule = one(5.0, phase=0.5)
        assert schedule.take_due(math.nextafter(NOW + 0.5, 0)) == []
        assert schedule.take_due(NOW + 0.5) == ["a"]
        assert schedule.take_due(NOW + 0.5) == []

    def test_the_next_tick_is_in_the_future_though_the_count_of_ticks_was_rounded_down(self) -> None:
        schedule = Schedule()
        schedule.add("a", interval_s=7.0, phase=0.0, now=1.7)
        schedule.set_interval("a", 0.1, 1.7 + 187 * 0.1)
        assert schedule.next_at == 1.7 + 188 * 0.1

    def test_lateness_does_not_add_up(self) -> None:
        schedule = one(5.0)
        for tick in range(1000):
            late = NOW + 5.0 * tick + 4.9
            assert schedule.take_due(late) == ["a"]
            assert schedule.next_at == NOW + 5.0 * (tick + 1)
        assert schedule.missed("a") == 0

    def test_ticks_do_not_pile_up(self) -> None:
        schedule = one(5.0)
        assert schedule.take_due(NOW + 52.0) == ["a"]
        assert schedule.next_at == NOW + 55.0
        assert schedule.missed("a") == 10

    def test_a_call_still_under_way_is_a_missed_tick(self) -> None:
        schedule = one(5.0)
        schedule.miss("a")
        schedule.miss("a")
        assert schedule.missed("a") == 2

    def test_one_interval_and_phase_is_one_burst(self) -> None:
        schedule = Schedule()
        for name in "dbca":
            schedule.add(name, interval_s=2.0, phase=0.5, now=NOW)
        schedule.add("slow", interval_s=60.0, phase=0.5, now=NOW)
        assert schedule.take_due(NOW + 0.5) == ["a", "b", "c", "d", "slow"]
        assert schedule.take_due(NOW + 2.5) == ["a", "b", "c", "d"]

    def test_the_longest_due_come_first(self) -> None:
        schedule = Schedule()
        schedule.add("a", interval_s=2.0, phase=0.9, now=NOW)
        schedule.add("b", interval_s=2.0, phase=0.1, now=NOW)
        assert schedule.take_due(NOW + 1.0) == ["b", "a"]

    def test_a_name_is_added_once(self) -> None:
        with pytest.raises(AssertionError, match="a is in the schedule already"):
            one(1.0).add("a", interval_s=2.0, phase=0.0, now=NOW)

    def test_an_unknown_name_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            one(1.0).next_due("b")


class TestHint:
    def test_it_makes_due_now(self) -> None:
        schedule = one(60.0, phase=0.0)
        schedule.take_due(NOW)
        schedule.hint(["a"], NOW + 10.0)
        assert schedule.next_due("a") == NOW + 10.0
        assert schedule.take_due(NOW + 10.0) == ["a"]

    @pytest.mark.parametrize(("hinted", "following"), [(29.9, 60.0), (30.0, 120.0), (59.0, 120.0)])
    def test_then_back_to_the_grid_half_an_interval_later_at_the_earliest(
        self, hinted: float, following: float
    ) -> None:
        schedule = one(60.0)
        schedule.take_due(NOW)
        schedule.hint(["a"], NOW + hinted)
        assert schedule.take_due(NOW + hinted) == ["a"]
        assert schedule.next_at == NOW + following
        schedule.take_due(NOW + following)
        assert schedule.next_at == NOW + following + 60.0
        assert schedule.missed("a") == 0

    def test_several_hints_are_one_poll(self) -> None:
        schedule = one(60.0)
        schedule.take_due(NOW)
        for _ in range(3):
            schedule.hint(["a"], NOW + 10.0)
        assert schedule.take_due(NOW + 10.1) == ["a"]
        assert schedule.take_due(NOW + 30.0) == []

    def test_many_hints_hold_no_memory(self) -> None:
        schedule = one(3600.0)
        for n in range(10_000):
            schedule.hint(["a"], NOW + n * 0.1)
            assert len(schedule._heap) <= 2
            schedule.take_due(NOW + n * 0.1)
            assert len(schedule._heap) <= 2


class TestSpread:
    def test_each_is_polled_once_evenly_over_one_interval(self) -> None:
        schedule = Schedule()
        for name in "abcd":
            schedule.add(name, interval_s=8.0, phase=0.0, now=NOW)
        schedule.take_due(NOW)
        schedule.spread(["c", "a", "d", "b"], NOW + 3.0, jitter=0.5)
        assert drain(schedule, NOW + 16.0) == [
            (NOW + 4.0, "c"),
            (NOW + 6.0, "a"),
            (NOW + 8.0, "d"),
            (NOW + 10.0, "b"),
            *((NOW + 16.0, name) for name in "abcd"),
        ]

    def test_jitter_places_all_inside_their_shares(self) -> None:
        schedule = Schedule()
        for name in "ab":
            schedule.add(name, interval_s=8.0, phase=0.0, now=NOW)
        schedule.spread(["a", "b"], NOW + 1.0, jitter=0.25)
        assert (schedule.next_due("a"), schedule.next_due("b")) == (NOW + 2.0, NOW + 6.0)

    def test_a_second_recovery_puts_nothing_off_any_further(self) -> None:
        schedule = Schedule()
        for name in "ab":
            schedule.add(name, interval_s=8.0, phase=0.0, now=NOW)
        schedule.take_due(NOW)
        schedule.spread(["a", "b"], NOW + 6.0, jitter=0.5)
        assert (schedule.next_due("a"), schedule.next_due("b")) == (NOW + 8.0, NOW + 12.0)
        schedule.spread(["b", "a"], NOW + 7.0, jitter=0.5)
        assert (schedule.next_due("a"), schedule.next_due("b")) == (NOW + 8.0, NOW + 9.0)

    def test_sources_that_are_left_out_keep_their_time(self) -> None:
        schedule = one(5.0)
        schedule.spread([], NOW, jitter=0.0)
        assert schedule.next_at == NOW


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

    def test_what_is_due_off_the_grid_stays_due(self) -> None:
        schedule = one(60.0)
        schedule.take_due(NOW)
        schedule.spread(["a"], NOW + 3.0, jitter=0.5)
        schedule.set_interval("a", 5.0, NOW + 4.0)
        assert schedule.next_at == NOW + 33.0
        schedule.take_due(NOW + 33.0)
        assert schedule.next_at == NOW + 40.0

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
        assert schedule.take_due(NOW + 0.5 + 5.0 * tick) == expected


@SETTINGS
@given(INTERVALS, PHASES, st.lists(st.floats(0.0, 3.0), max_size=30))
def test_every_time_lies_on_the_grid_and_in_the_future(interval_s: float, phase: float, lateness: list[float]) -> None:
    schedule = one(interval_s, phase=phase)
    anchor = next_at(schedule)
    for polls, late in enumerate(lateness, start=1):
        now = next_at(schedule) + late * interval_s
        assert schedule.take_due(now) == ["a"]
        tick = (next_at(schedule) - anchor) / interval_s
        assert now < next_at(schedule) <= now + interval_s * 1.000001
        assert tick == pytest.approx(round(tick), abs=1e-6)
        assert schedule.missed("a") == round(tick) - polls, "each tick is polled or missed"


@SETTINGS
@given(st.integers(1, 30), INTERVALS, PHASES, st.floats(0.0, 10.0), SHARES)
def test_never_twice_within_half_an_interval_and_never_silent(
    count: int, interval_s: float, phase: float, after: float, jitter: float
) -> None:
    schedule = Schedule()
    names = [f"s{n}" for n in range(count)]
    for name in names:
        schedule.add(name, interval_s=interval_s, phase=phase, now=NOW)
    now = NOW + 1.0 + after * interval_s
    drain(schedule, now)
    schedule.spread(names, now, jitter=jitter)
    seen = drain(schedule, now + 4 * interval_s)
    first = {name: at for at, name in reversed(seen)}
    assert sorted(first) == sorted(names)
    assert all(now <= at < now + interval_s * 1.000001 for at in first.values())
    steps = [later - earlier for earlier, later in pairwise(sorted(first.values()))]
    assert all(step == pytest.approx(interval_s / count, rel=1e-3) for step in steps), "evenly"
    for name in names:
        times = [at for at, other in seen if other == name]
        steps = [later - earlier for earlier, later in pairwise(times)]
        assert all(interval_s * 0.499999 < step <= interval_s * 1.500001 for step in steps)
        assert all(step == pytest.approx(interval_s, rel=1e-4) for step in steps[1:])
    assert len({at for at, _ in seen[-count:]}) == 1, "back on the shared grid"
