"""When a failed call is repeated (rule 4): how soon, in whose place, and within which budget."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polling import backend_plan, call_ended, polled, source_plan

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import Answer, Fault, Verdict
from tidegate.core.polling.repetitions import SPREAD, Repetitions
from tidegate.core.polling.source import Source
from tidegate.errors import ErrorCode

DOWN = Fault(ErrorCode.RPC_HTTP_STATUS, "500", Verdict.FAILURE)
LATE = Fault(ErrorCode.RPC_TIMEOUT, "after 2 s", Verdict.FAILURE)
WELL = Answer(b"0")  # type: ignore[arg-type]


def at(seconds: float) -> Instant:
    return Instant(seconds, 1_795_000_000.0 + seconds)


class House:
    """The repetitions of one backend with the sources `names`. Draws are 0.5: no wait is shorter or longer."""

    def __init__(
        self,
        *names: str,
        interval_s: float = 60.0,
        timeout_s: float = 2.0,
        retry_s: float = 1.0,
        rate_per_s: float = 0.1,
        draw: float = 0.5,
    ) -> None:
        sources = [source_plan(name, interval_s, timeout_s=timeout_s) for name in names]
        plan = backend_plan(*sources, rules=BreakerRules(), retry_s=retry_s)
        self.sources = polled(plan)
        self.repetitions = Repetitions(plan, rate_per_s=rate_per_s)
        self.draw = draw

    def fails(self, *names: str, seconds: float, fault: Fault = DOWN, unreachable: bool = False) -> None:
        group = [self.sources[name] for name in names]
        for source in group:
            call_ended(source, fault, at(seconds))
        self.plan(group, seconds, unreachable=unreachable)

    def plan(self, group: list[Source], seconds: float, *, unreachable: bool = False) -> None:
        self.repetitions.plan(group, now=at(seconds), unreachable=unreachable, draw=lambda: self.draw)

    def due(self, seconds: float) -> list[list[str]]:
        return [[source.type for source in group] for group in self.repetitions.take_due(at(seconds))]


def waits(house: House, count: int, *, fault: Fault = DOWN, unreachable: bool = False) -> list[float | None]:
    """The waits after `count` failures in a row of "a.x", one after the other."""
    seen: list[float | None] = []
    now = 100.0
    for _ in range(count):
        house.fails("a.x", seconds=now, fault=fault, unreachable=unreachable)
        next_at = house.repetitions.next_at
        seen.append(None if next_at is None else next_at - now)
        now = now + 1000.0 if next_at is None else next_at
        house.due(now)
    return seen


# how soon


def test_the_wait_doubles_with_each_failure_in_a_row_until_it_is_as_long_as_the_interval() -> None:
    assert waits(House("a.x", interval_s=20.0), 7) == [1.0, 2.0, 4.0, 8.0, 16.0, None, None]
    assert waits(House("a.x", interval_s=16.0), 5) == [1.0, 2.0, 4.0, 8.0, None]
    assert waits(House("a.x", interval_s=60.0, retry_s=0.25), 3) == [0.25, 0.5, 1.0]


def test_an_answer_begins_the_run_of_failures_anew() -> None:
    house = House("a.x")
    waits(house, 3)
    call_ended(house.sources["a.x"], WELL, at(500.0))
    assert waits(house, 2) == [1.0, 2.0]


@pytest.mark.parametrize(("draw", "wait_s"), [(0.0, 0.8), (0.5, 1.0), (0.75, 1.1)])
def test_the_wait_is_up_to_a_fifth_shorter_or_longer(draw: float, wait_s: float) -> None:
    assert waits(House("a.x", draw=draw), 1) == [pytest.approx(wait_s)]


def test_after_an_unreachable_outcome_the_wait_does_not_grow() -> None:
    assert waits(House("a.x"), 3, unreachable=True) == [1.0, 1.0, 1.0]


def test_after_a_timeout_the_wait_is_at_least_the_timeout() -> None:
    """A call that found no connection within that has cost the backend nothing."""
    assert waits(House("a.x"), 4, fault=LATE) == [2.0, 2.0, 4.0, 8.0]
    assert waits(House("a.x", timeout_s=7.0), 4, fault=LATE) == [7.0, 7.0, 7.0, 8.0], "its own"
    assert waits(House("a.x", interval_s=2.0), 1, fault=LATE) == [None]
    assert waits(House("a.x"), 2, fault=LATE, unreachable=True) == [1.0, 1.0]


def test_a_retry_of_0_repeats_nothing() -> None:
    assert waits(House("a.x", retry_s=0.0), 1) == [None]


def test_it_is_due_when_its_wait_is_over_and_once() -> None:
    house = House("a.x")
    house.fails("a.x", seconds=10.0)
    assert (house.repetitions.due_at(house.sources["a.x"]), house.repetitions.next_at) == (11.0, 11.0)
    assert (house.due(10.9), house.due(11.0), house.due(12.0)) == ([], [["a.x"]], [])
    assert (house.repetitions.due_at(house.sources["a.x"]), house.repetitions.next_at) == (None, None)


def test_a_call_for_another_reason_takes_its_place() -> None:
    house = House("a.x", "b.x")
    house.fails("a.x", seconds=10.0)
    house.fails("b.x", seconds=10.5)
    house.repetitions.drop(house.sources["a.x"])
    house.repetitions.drop(house.sources["a.x"])
    assert ([source.type for source in house.repetitions.waiting], house.repetitions.next_at) == (["b.x"], 11.5)
    assert house.due(20.0) == [["b.x"]]


def test_another_failure_meanwhile_puts_it_off() -> None:
    house = House("a.x")
    house.fails("a.x", seconds=10.0)
    house.fails("a.x", seconds=10.5)
    assert (house.due(11.0), house.due(12.5)) == ([], [["a.x"]])


# batches


def test_failed_elements_of_a_batch_are_repeated_together_after_the_wait_of_the_one_that_failed_least_often() -> None:
    house = House("a.x", "b.x", "c.x")
    for seconds in (1.0, 2.0, 3.0):
        call_ended(house.sources["a.x"], DOWN, at(seconds))
    call_ended(house.sources["b.x"], DOWN, at(3.0))
    house.fails("a.x", "b.x", "c.x", seconds=10.0)
    house.repetitions.drop(house.sources["c.x"])
    assert (house.due(10.9), house.due(11.0)) == ([], [["a.x", "b.x"]])


def test_an_element_whose_tick_comes_as_soon_is_left_out() -> None:
    house = House("a.x", "b.x")
    house.sources["b.x"].plan = source_plan("b.x", 1.0)
    house.fails("a.x", "b.x", seconds=10.0)
    assert house.due(60.0) == [["a.x"]]


# the budget


def test_one_is_in_flight_at_a_time() -> None:
    house = House("a.x", "b.x")
    assert house.repetitions.begin(at(10.0))
    assert not house.repetitions.begin(at(90.0))
    house.repetitions.ended()
    assert house.repetitions.begin(at(90.0))


@pytest.mark.parametrize(("rate_per_s", "gap_s"), [(0.1, 1.0), (10.0, 1.0), (50.0, 0.2)])
def test_there_is_one_a_second_or_a_tenth_of_the_normal_rate_if_that_is_more(rate_per_s: float, gap_s: float) -> None:
    repetitions = House("a.x", rate_per_s=rate_per_s).repetitions
    assert repetitions.begin(at(10.0))
    repetitions.ended()
    assert not repetitions.begin(at(10.0 + gap_s - 0.001))
    assert repetitions.begin(at(10.0 + gap_s))


@pytest.mark.parametrize(("began_at", "due_at"), [(10.0, 11.0), (10.15, 11.15), (10.25, 11.0), (9.5, 11.0)])
def test_one_that_would_find_no_room_by_chance_waits_a_moment_more(began_at: float, due_at: float) -> None:
    house = House("a.x", "b.x")
    house.repetitions.begin(at(began_at))
    house.fails("a.x", seconds=10.0)
    assert house.repetitions.next_at == pytest.approx(due_at)


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    interval_s=st.sampled_from([0.5, 2.0, 5.0, 60.0]),
    retry_s=st.sampled_from([0.1, 1.0, 7.0]),
    rate_per_s=st.sampled_from([0.1, 8.0, 40.0]),
)
def test_the_budget_holds_and_no_wait_reaches_the_interval(
    seed: int, interval_s: float, retry_s: float, rate_per_s: float
) -> None:
    """Never two in flight, never above the rate in any second, never one that waited an interval or more."""
    chance = random.Random(seed)
    names = [f"s{n}.x" for n in range(6)]
    house = House(*names, interval_s=interval_s, retry_s=retry_s, rate_per_s=rate_per_s)
    failed_at: dict[str, float] = {}
    began: list[float] = []
    is_out = False
    most = max(1.0, rate_per_s / 10)
    for step in range(400):
        now = 100.0 + step / 20
        if is_out and chance.random() < 0.3:
            house.repetitions.ended()
            is_out = False
        for group in house.due(now):
            # On a grid of 0.05 s; and one that would find no room by chance waits for that.
            longest_s = interval_s + 0.05 + SPREAD / most
            assert all(now - failed_at[name] < longest_s for name in group)
            if house.repetitions.begin(at(now)):
                assert not is_out
                is_out = True
                began.append(now)
        house.draw = chance.random()
        if chance.random() < 0.4:
            failing = chance.sample(names, chance.randint(1, 3))
            house.fails(*failing, seconds=now, fault=chance.choice([DOWN, LATE]), unreachable=chance.random() < 0.2)
            failed_at |= dict.fromkeys(failing, now)
    assert all(sum(now <= other < now + 0.999 for other in began) <= most for now in began)
