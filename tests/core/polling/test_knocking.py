"""When to knock (rule 1): how often, for which breakers, and what a knock that found something changes."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_runs import Episode
from tidegate.core.polling.breaker_values import BreakerRules, Reason, State
from tidegate.core.polling.knocking import Knocking
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import Permit
from tidegate.core.polling.turn import Knock
from tidegate.errors import ErrorCode

UNREACHABLE = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE, unreachable=True)
SICK = Fault(ErrorCode.RPC_HTTP_STATUS, "500", Verdict.FAILURE)
RULES = BreakerRules(failure_threshold=1, open_s=64.0, open_max_s=64.0, heal_s=30.0)


def at(seconds: float) -> Instant:
    return Instant(seconds, 1_795_000_000.0 + seconds)


class House:
    """The knocks for two breakers, "a" and "b". Draws are 0.5: no gap is shorter or longer."""

    def __init__(self, *, rules: BreakerRules = RULES, draw: float = 0.5) -> None:
        self.breakers = {name: Breaker(name, rules, now=at(0.0)) for name in ("a", "b")}
        self.knocking = Knocking(open_max_s=rules.open_max_s)
        self.draw = draw
        self.follow(0.0)

    def call(self, name: str, seconds: float, fault: Fault | None, *, reached: bool = False) -> None:
        """A call behind this breaker begins and ends; as a probe if it is open."""
        breaker = self.breakers[name]
        permit = breaker.permit(at(seconds), reached=reached, timeout_s=2.0)
        assert isinstance(permit, Permit)
        verdict = Verdict.SUCCESS if fault is None else fault.verdict
        breaker.record(permit, verdict, now=at(seconds), jitter=0.0, fault=fault)
        self.follow(seconds)

    def follow(self, seconds: float) -> None:
        self.knocking.follow(self.breakers.values(), at(seconds), lambda: self.draw)

    def begin(self, seconds: float) -> Knock:
        return self.knocking.begin(self.breakers, at(seconds), lambda: self.draw)

    def end(self, knock: Knock, seconds: float) -> list[str]:
        return self.knocking.end(knock, at(seconds))

    def due(self) -> dict[str, float]:
        return dict(self.knocking.due())

    def knocks(self, until: float, *, takes_s: float = 0.0) -> Sequence[float]:
        """Knock whenever one is due, and find nothing. Returns when that was."""
        seen = []
        while (now := min(self.due().values())) < until:
            seen.append(now)
            self.end(self.begin(now), now + takes_s)
        return seen


# the pace


def test_the_first_is_one_gap_after_the_opening_then_one_a_second_in_the_first_minute_and_then_one_in_five() -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    assert house.knocks(183.0) == [*(101.0 + n for n in range(60)), 165.0, 170.0, 175.0, 180.0]


@pytest.mark.parametrize(("draw", "gap_s"), [(0.0, 0.8), (0.75, 1.1)])
def test_a_gap_is_up_to_a_fifth_shorter_or_longer(draw: float, gap_s: float) -> None:
    house = House(draw=draw)
    house.call("a", 100.0, UNREACHABLE)
    assert house.knocks(102.3)[:2] == pytest.approx([100.0 + gap_s, 100.0 + 2 * gap_s])


def test_a_gap_begins_when_the_last_knock_began_and_the_next_one_not_before_that_ended() -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    assert house.knocks(104.0, takes_s=0.75) == [101.0, 102.0, 103.0]
    assert house.knocks(110.0, takes_s=3.0) == [104.0, 107.0]


def test_there_is_one_at_a_time() -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    knock = house.begin(101.0)
    assert (house.due(), house.knocking.current) == ({}, knock)
    house.end(knock, 101.5)
    assert (house.due(), house.knocking.current) == ({"a": 102.0}, None)


# for whom


def test_only_an_open_breaker_whose_newest_outcome_was_unreachable_wants_knocks() -> None:
    house = House()
    house.follow(99.0)
    assert house.due() == {}, "closed"
    house.call("a", 100.0, SICK)
    house.call("b", 100.0, UNREACHABLE)
    assert house.due() == {"b": 101.0}
    house.call("b", 102.0, SICK, reached=True)
    assert house.due() == {}, "a probe found it sick"
    house.call("a", 164.0, UNREACHABLE)
    assert list(house.due()) == ["a"]


@pytest.mark.parametrize("what", ["force_open", "hold", "reset", "force_closed"])
def test_a_knock_is_not_wanted_any_more_after_a_move_an_override_or_a_hold(what: str) -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    knock = house.begin(101.0)
    assert house.knocking.is_wanted(knock)
    breaker = house.breakers["a"]
    match what:
        case "force_open":
            breaker.force_open(at(101.5))
        case "hold":
            breaker.hold(at(130.0))
        case "reset":
            breaker.reset(at(101.5))
        case "force_closed":
            breaker.force_closed(at(101.5))
    house.follow(101.5)
    assert not house.knocking.is_wanted(knock)
    assert (house.end(knock, 102.0), house.due()) == ([], {})


def test_after_a_hold_it_knocks_again() -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    house.breakers["a"].hold(at(110.0))
    house.follow(100.0)
    assert house.due() == {}
    house.follow(110.0)
    assert house.due() == {"a": 111.0}


def test_a_knock_of_an_earlier_opening_says_nothing_about_the_next() -> None:
    house = House(rules=BreakerRules(failure_threshold=1, open_s=1.0, open_max_s=64.0))
    house.call("a", 100.0, UNREACHABLE)
    knock = house.begin(100.4)
    house.call("a", 101.0, UNREACHABLE)
    assert not house.knocking.is_wanted(knock)
    assert house.end(knock, 101.5) == []
    assert house.due() == {"a": 102.0}


def test_one_knock_is_for_all_breakers_that_want_one_then() -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    house.call("b", 100.5, UNREACHABLE)
    knock = house.begin(101.0)
    assert knock.generations == {"a": 1, "b": 1}
    assert house.end(knock, 101.0) == ["a", "b"]
    assert house.due() == {"a": 102.0, "b": 102.0}


def test_a_breaker_that_opened_during_a_knock_has_one_of_its_own() -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    knock = house.begin(101.0)
    house.call("b", 101.2, UNREACHABLE)
    assert house.end(knock, 101.5) == ["a"]
    assert house.due() == {"a": 102.0, "b": 102.2}


# flapping


def test_from_the_second_opening_of_an_episode_on_it_knocks_later_and_later() -> None:
    """A listener that is up 300 ms of every 600: at the m-th opening not before min(2^(m-2), open_max_s) x U(0.5, 1).

    A probe whose time has come goes all the same.
    """
    house = House()
    now, firsts = 100.0, []
    for _ in range(7):
        house.call("a", now, UNREACHABLE)
        first = house.due()["a"]
        firsts.append(first - now)
        house.end(house.begin(first), first)
        early = house.breakers["a"].refusal(at(first - 0.01), reached=True)
        assert early is not None or len(firsts) < 4, "whatever connects before that"
        house.call("a", first, None, reached=True)
        assert house.breakers["a"].view().history[-2].reason is Reason.REACHABLE
        now = first + 0.3
    assert firsts == pytest.approx([1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0]), "half of 1, 2, 4, 8, 16, 32 s"


@pytest.mark.parametrize(
    ("jitter", "waits"), [(0.0, [0.0, 0.5, 1.0, 2.0, 2.5, 2.5]), (0.5, [0.0, 0.75, 1.5, 3.0, 3.75])]
)
def test_the_wait_of_a_flapping_breaker_is_at_most_the_longest_open_period(jitter: float, waits: list[float]) -> None:
    episode, seen = None, []
    for n in range(len(waits)):
        episode = Episode.after(episode, at(100.0 * n), open_max_s=5.0, jitter=jitter)
        seen.append(episode.knock_from - 100.0 * n)
        assert (episode.began, episode.openings) == (0.0, n + 1)
    assert seen == waits


def test_a_breaker_that_was_closed_for_long_enough_begins_another_episode() -> None:
    house = House(rules=BreakerRules(failure_threshold=1, open_s=64.0, open_max_s=64.0, heal_s=10.0))
    now = 100.0
    for _ in range(5):
        house.call("a", now, UNREACHABLE)
        house.call("a", house.due()["a"], None, reached=True)
        now += 8.0
    house.call("a", now + 20.0, UNREACHABLE)
    assert house.due() == {"a": now + 21.0}


# it connects, but the probe cannot


def fruitless(house: House, seconds: float) -> float:
    """A knock finds something, and its probe nothing. Returns the gap until the next one."""
    house.end(house.begin(seconds), seconds)
    house.call("a", seconds, UNREACHABLE, reached=True)
    return house.due()["a"] - seconds


def test_if_the_probe_after_a_knock_finds_no_connection_the_gaps_double_up_to_the_longest_open_period() -> None:
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    retry_at = house.breakers["a"].view().retry_at
    gaps = []
    now = 101.0
    for _ in range(4):
        gaps.append(fruitless(house, now))
        now += gaps[-1]
    assert gaps == [2.0, 4.0, 8.0, 16.0]
    view = house.breakers["a"].view()
    assert (view.state, view.retry_at, view.open_count) == (State.OPEN, retry_at, 1), "as before the knocks"


def test_that_ends_when_a_probe_finds_it_sick_or_the_breaker_closes() -> None:
    for fault in (SICK, None):
        house = House(rules=BreakerRules(failure_threshold=1, open_s=32.0, open_max_s=32.0))
        house.call("a", 100.0, UNREACHABLE)
        assert [fruitless(house, 101.0), fruitless(house, 103.0)] == [2.0, 4.0]
        house.call("a", 120.0, fault)
        house.call("a", 200.0, UNREACHABLE)
        assert fruitless(house, 201.0) == 10.0 if fault else 2.0, "twice the gap after the first minute, or in it"


def test_a_probe_whose_time_had_come_and_that_finds_no_connection_counts_as_ever() -> None:
    house = House(rules=BreakerRules(failure_threshold=1, open_s=4.0, open_max_s=64.0))
    house.call("a", 100.0, UNREACHABLE)
    assert fruitless(house, 101.0) == 2.0
    house.call("a", 102.0, UNREACHABLE)
    view = house.breakers["a"].view()
    assert (view.open_count, view.retry_at) == (2, at(106.0).wall)
    assert house.due() == {"a": 104.0}, "the gap stays doubled"


# where it goes on elsewhere


def test_a_new_holder_of_an_unreachable_breaker_knocks_at_once() -> None:
    """Rule 10."""
    house = House()
    house.call("a", 100.0, UNREACHABLE)
    house.knocks(110.0)
    carried, there = house.breakers["a"].carried(at(110.0)), Instant(7.0, at(110.0).wall)
    house.breakers["a"] = Breaker.from_carried("a", RULES, carried, now=there)
    house.breakers["b"] = Breaker("b", RULES, now=there)
    house.knocking = Knocking(open_max_s=64.0)
    house.follow(7.0)
    assert house.due() == {"a": 7.0}
    assert house.knocks(10.0)[1:] == pytest.approx([8.0, 9.0]), "and goes on as ever"
    house.call("b", 10.0, UNREACHABLE)
    assert house.due()["b"] == 11.0


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(seed=st.integers(0, 10_000))
def test_gaps_are_never_shorter_than_they_may_be_and_a_knock_counts_only_for_the_opening_that_it_was_made_for(
    seed: int,
) -> None:
    chance = random.Random(seed)
    house = House(rules=BreakerRules(failure_threshold=1, open_s=4.0, open_max_s=16.0, heal_s=8.0))
    now, began, ended = 100.0, -100.0, -100.0
    knock: Knock | None = None
    for _ in range(300):
        now += chance.choice([0.0, 0.1, 0.5, 1.3, 6.0])
        house.draw = chance.random()
        name = chance.choice(["a", "b"])
        breaker = house.breakers[name]
        match chance.randrange(6):
            case 0:
                breaker.hold(at(now + chance.choice([0.5, 5.0])))
            case 1:
                breaker.reset(at(now))
            case 2 if breaker.refusal(at(now)) is None:
                house.call(name, now, chance.choice([UNREACHABLE, UNREACHABLE, SICK, None]))
            case _:
                pass
        house.follow(now)
        if knock is not None and chance.random() < 0.5:
            generations = {each.name: each.generation for each in house.breakers.values()}
            for each in house.end(knock, now):
                assert generations[each] == knock.generations[each]
                assert house.breakers[each].refusal(at(now), reached=True) is None or now < (
                    house.breakers[each].knocks_from_mono(at(now)) or 0.0
                )
            knock, ended = None, now
        due = house.due()
        assert knock is None or due == {}
        if due and min(due.values()) <= now:
            assert now >= ended
            wanted = [each for each, since in due.items() if house.breakers[each].knocks_from_mono(at(now)) is not None]
            assert wanted == list(due)
            if len(due) == 1 and began > 0 and next(iter(due)) == "a":
                assert now - began >= 0.8 - 1e-9 or house.breakers["a"].view().since > at(began).wall
            knock, began = house.begin(now), now
