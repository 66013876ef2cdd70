"""How a backend that is back is asked (rule 5): everybody once, soon, and without a herd."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polling import backend_plan, polled, source_plan

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.catching_up import LATE_S, CatchingUp
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Turn, Why

RULES = BreakerRules()
GAP_S = 0.051
"""A twentieth of a second, and as much more as late calls are made up for."""


def at(seconds: float) -> Instant:
    return Instant(seconds, 1_795_000_000.0 + seconds)


class House:
    """The catching up of one backend with `count` sources."""

    def __init__(self, count: int, *, rate_per_s: float = 1.0, connections: int = 100) -> None:
        plan = backend_plan(*(source_plan(f"s{n}.x", 60.0) for n in range(count)), rules=RULES)
        self.sources = list(polled(plan).values())
        self.catching_up = CatchingUp(rate_per_s=rate_per_s, connections=connections)
        self.breaker = Breaker("engine", RULES, now=at(0.0))
        self.under_way: list[Turn] = []

    def begin(self, seconds: float, sources: Sequence[Source] | None = None, *, after_hold: bool = False) -> None:
        groups = [[source] for source in (self.sources if sources is None else sources)]
        self.catching_up.begin(groups, at(seconds), after_hold=after_hold)

    def take(self, seconds: float) -> list[str]:
        """Begin all calls that may begin now."""
        taken = []
        while (group := self.catching_up.take(at(seconds))) is not None:
            turn = Turn(group, self.breaker, Why.CATCHING_UP)
            self.catching_up.began(turn, at(seconds))
            self.under_way.append(turn)
            taken += [source.type for source in group]
        return taken

    def end(self, *, answered: bool | None = True, count: int = 1) -> None:
        for _ in range(count):
            turn = self.under_way.pop(0)
            turn.answered = answered
            self.catching_up.ended(turn)


def grown(house: House, allowed: int) -> float:
    """Begin to catch up at 0 s, and get so many answers that `allowed` calls are under way. Return when that is."""
    house.begin(0.0)
    now = 0.0
    house.take(now)
    while len(house.under_way) < allowed:
        house.end()
        for _ in range(2):
            now += GAP_S
            house.take(now)
    return now


# how many at once


def test_one_call_is_under_way_at_first_and_one_more_for_each_answer() -> None:
    house = House(20)
    house.begin(100.0)
    seen = []
    for step in range(5):
        now = 100.0 + step
        for half in range(10):
            house.take(now + half / 10)
        seen.append(len(house.under_way))
        house.end()
    assert seen == [1, 2, 3, 4, 5]


def test_there_are_never_more_than_the_connections() -> None:
    house = House(20, connections=2)
    house.begin(100.0)
    most = 0
    for step in range(40):
        house.take(100.0 + step * GAP_S)
        most = max(most, len(house.under_way))
        if step % 2:
            house.end()
    assert most == 2


def test_a_failure_takes_the_calls_under_way_back_to_one() -> None:
    house = House(40)
    now = grown(house, 4)
    house.end(answered=False)
    assert house.take(now + 1.0) == [], "three are under way"
    house.end(count=2, answered=None)
    assert house.take(now + 1.0) == [], "one is under way"
    house.end(answered=None)
    assert len(house.take(now + 1.0)) == 1, "a call that judged nothing allows no more, and no less"
    house.end()
    house.take(now + 2.0)
    house.take(now + 3.0)
    assert len(house.under_way) == 2


def test_the_end_of_another_call_says_nothing() -> None:
    house = House(3)
    house.begin(100.0)
    house.take(100.0)
    house.catching_up.ended(Turn(house.sources, house.breaker, Why.TICK))
    assert (house.take(101.0), house.catching_up.next_at) == ([], None)


# how fast


@pytest.mark.parametrize(("rate_per_s", "gap_s"), [(1.0, GAP_S), (5.0, GAP_S), (50.0, 1.02 / 200)])
def test_calls_begin_evenly_spaced_20_a_second_or_four_times_the_normal_rate(rate_per_s: float, gap_s: float) -> None:
    house = House(100, rate_per_s=rate_per_s)
    now = grown(house, 3)
    house.end(count=3)
    assert house.take(now) == [], "the last one has just begun"
    starts = []
    for step in range(2000):
        if house.take(now + 1.0 + step / 10_000):
            starts.append(step / 10_000)
            house.end()
    steps = [later - earlier for earlier, later in pairwise(starts)]
    assert steps
    assert all(step == pytest.approx(gap_s, abs=0.0002) for step in steps)


@pytest.mark.parametrize(("rate_per_s", "gap_s"), [(0.1, 1.02), (8.0, 1.02 / 8)])
def test_after_a_hold_the_rate_is_the_normal_one_and_at_least_one_a_second(rate_per_s: float, gap_s: float) -> None:
    """A rate limiter is not a recovery."""
    house = House(10, rate_per_s=rate_per_s)
    house.begin(100.0, after_hold=True)
    house.take(100.0)
    house.end()
    assert house.catching_up.next_at == pytest.approx(100.0 + gap_s)
    house.begin(100.0, house.sources[5:], after_hold=False)
    house.take(100.0 + gap_s)
    house.end()
    assert house.catching_up.next_at == pytest.approx(100.0 + 2 * gap_s), "it goes on as slowly until it is through"


def test_a_call_that_is_a_little_late_delays_none_after_it_but_waiting_is_not_made_up_for() -> None:
    house = House(10)
    house.begin(100.0)
    house.take(100.0 + LATE_S)
    house.end()
    assert house.catching_up.next_at == pytest.approx(100.0 + GAP_S)
    house.take(105.0)
    house.end()
    assert house.catching_up.next_at == pytest.approx(105.0 + GAP_S)


# who


def test_each_is_asked_once_in_the_order_given_however_often_it_is_wanted() -> None:
    house = House(4)
    house.begin(100.0, house.sources[2:])
    house.begin(100.0)
    assert [source.type for source in house.catching_up.waiting] == ["s2.x", "s3.x", "s0.x", "s1.x"]
    asked = []
    for step in range(10):
        asked += house.take(101.0 + step)
        if house.under_way:
            house.end()
    assert asked == ["s2.x", "s3.x", "s0.x", "s1.x"]
    assert (house.catching_up.is_over, house.catching_up.next_at) == (True, None)


def test_it_is_over_when_the_last_call_has_ended() -> None:
    house = House(1)
    assert house.catching_up.is_over
    house.begin(100.0)
    seen = [house.catching_up.is_over]
    house.take(100.0)
    seen.append(house.catching_up.is_over)
    house.end()
    assert [*seen, house.catching_up.is_over] == [False, False, True]


def test_those_whose_breaker_has_opened_are_not_asked_any_more() -> None:
    house = House(4)
    house.catching_up.begin([house.sources[:2], house.sources[2:]], at(100.0), after_hold=False)
    house.catching_up.stop(house.sources[1:3])
    assert [source.type for source in house.catching_up.waiting] == ["s0.x", "s3.x"]
    assert house.take(100.0) == ["s0.x"]
    house.catching_up.stop(house.sources)
    assert (house.catching_up.is_over, house.catching_up.next_at) == (True, None)


def test_the_next_closing_begins_anew_with_one_call() -> None:
    house = House(40)
    now = grown(house, 4)
    house.catching_up.stop(house.sources)
    house.begin(now + 1.0)
    late = [house.under_way.pop() for _ in range(4)]
    for turn in late:  # those of the time before say nothing about this one
        turn.answered = True
        house.catching_up.ended(turn)
    for step in range(10):
        house.take(now + 1.0 + step)
    assert len(house.under_way) == 1


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    rate_per_s=st.sampled_from([0.1, 4.0, 25.0]),
    connections=st.sampled_from([1, 3, 100]),
    after_hold=st.booleans(),
)
def test_no_second_has_more_calls_than_the_cap_no_moment_more_than_allowed_and_nobody_is_asked_twice(
    seed: int, count: int, rate_per_s: float, connections: int, after_hold: bool
) -> None:
    """Whenever the calls end and however late they begin."""
    chance = random.Random(seed)
    house = House(count, rate_per_s=rate_per_s, connections=connections)
    house.begin(0.0, after_hold=after_hold)
    starts: list[float] = []
    asked: list[str] = []
    now, allowed = 0.0, 1
    while not house.catching_up.is_over:
        next_at = house.catching_up.next_at
        jump = chance.choice([0.0, 0.001, 0.02, 0.05, 0.4])
        now = now + jump if next_at is None else max(now, next_at + chance.choice([0.0, 0.0, 0.005, 0.02, 0.3]))
        before = len(house.under_way)
        taken = house.take(now)
        starts += [now] * len(taken)
        asked += taken
        assert not taken or len(house.under_way) <= allowed
        assert len(taken) + before == len(house.under_way)
        while house.under_way and chance.random() < 0.6:
            answered = chance.random() < 0.9
            allowed = min(allowed + 1, connections) if answered else 1
            house.end(answered=answered)
    assert sorted(asked) == sorted(source.type for source in house.sources)
    cap = max(1.0, rate_per_s) if after_hold else max(20.0, 4 * rate_per_s)
    span_s = 1.0 - 1e-9
    assert max(sum(start <= other < start + span_s for other in starts) for start in starts) <= cap
