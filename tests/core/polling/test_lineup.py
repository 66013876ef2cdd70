"""Whom a backend's poller asks next: by ticks, as the probe of a breaker, after a hold."""

from collections.abc import Sequence

import msgspec
import pytest
from polling import backend_plan, source_plan

from tidegate.core.instant import Instant
from tidegate.core.measurements import TicksMissed
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.lineup import Lineup, Turn
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import Permit
from tidegate.core.polling.source import Source
from tidegate.errors import ErrorCode

WALL = 1_795_000_000.0
DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
RULES = BreakerRules(failure_threshold=2, open_s=8.0, open_max_s=8.0, probe_deadline_s=4.0)


def at(seconds: float) -> Instant:
    return Instant(seconds, WALL + seconds)


def planned(name: str, interval_s: float = 64.0, *, breaker: str = "engine") -> SourcePlan:
    return source_plan(name, interval_s, breaker=breaker)


class House:
    """The lineup of one backend, with its sources and breakers. First polls are due at 0 s: all draws are 0."""

    def __init__(self, *sources: SourcePlan, batch: bool = False, connections: int = 9) -> None:
        self.plan = backend_plan(*sources, rules=RULES, batch=batch, connections=connections)
        self.parts = BackendParts(self.plan, keeps=False, carried=None, now=at(0.0))
        self.lineup = self.new_lineup()
        self.lineup.begin(at(0.0), lambda: 0.0)

    def new_lineup(self) -> Lineup:
        parts = self.parts
        return Lineup(self.plan, sources=parts.sources, breakers=parts.breakers, behind=parts.behind)

    @property
    def breaker(self) -> Breaker:
        return self.parts.breakers["engine"]

    def source(self, name: str) -> Source:
        return self.parts.sources[name]

    def tick(self, seconds: float) -> list[str]:
        """Line up who is due; return who that is."""
        asked = []
        self.lineup.make_up_for_hold(at(seconds))
        for name, due in self.lineup.take_due(at(seconds)).items():
            asked += names(self.lineup.line_up(name, due, at(seconds)))
        return asked

    def begin_turns(self, seconds: float) -> list[Turn]:
        """Send every call for which there is a connection."""
        turns = list(iter(lambda: self.lineup.next(at(seconds)), None))
        for turn in turns:
            permit = turn.breaker.permit(at(seconds))
            self.lineup.forget_probe(turn)
            assert isinstance(permit, Permit)
            turn.permit = permit
            for source in turn.group:
                source.sent(at(seconds))
        return turns

    def ask(self, seconds: float) -> list[str]:
        """Ask everybody who is due, and get an answer at once."""
        self.tick(seconds)
        turns = self.begin_turns(seconds)
        for turn in turns:
            self.lineup.end_turn(turn)
        return [source.type for turn in turns for source in turn.group]

    def next_poll_at(self, name: str, seconds: float) -> float:
        return self.lineup.next_poll_at(self.source(name), self.breaker.view(), at(seconds))


def names(sources: Sequence[Source]) -> list[str]:
    return [source.type for source in sources]


def opened(breaker: Breaker, seconds: float) -> float:
    """Two failures open the breaker. Returns when it lets a probe through."""
    for _ in range(2):
        permit = breaker.permit(at(seconds))
        assert isinstance(permit, Permit)
        breaker.record(permit, Verdict.FAILURE, now=at(seconds), jitter=0.0, fault=DOWN)
    assert breaker.retry_at_mono is not None
    return breaker.retry_at_mono


# ticks


def test_sources_with_the_same_interval_are_first_due_together() -> None:
    house = House(planned("a.x"), planned("b.x", 0.5), planned("c.x"))
    lineup = house.new_lineup()
    draws = iter([0.25, 0.5, 0.75])
    lineup.begin(at(0.0), lambda: next(draws))
    due = {seconds: names(lineup.take_due(at(seconds))["engine"]) for seconds in (0.24, 0.25, 0.26)}
    assert due == {0.24: [], 0.25: ["a.x", "b.x", "c.x"], 0.26: []}, "a share of a second, or of the interval"


def test_a_tick_during_a_call_is_missed_and_each_is_measured_once() -> None:
    house = House(planned("a.x", 8.0))
    house.tick(0.0)
    measured = Decision()
    for seconds in (8.0, 16.0, 40.0):
        assert house.tick(seconds) == []
        house.lineup.count_missed(house.source("a.x"), measured)
        house.lineup.count_missed(house.source("a.x"), measured)
    assert measured.measurements == [TicksMissed("a.x", 1), TicksMissed("a.x", 1), TicksMissed("a.x", 3)]
    assert (house.lineup.missed(house.source("a.x")), house.source("a.x").missed_counted) == (5, 5)


def test_what_is_due_is_sorted_by_breaker() -> None:
    house = House(planned("a.x"), planned("b.x", breaker="other"), planned("c.x"))
    due = house.lineup.take_due(at(0.0))
    assert {name: names(sources) for name, sources in due.items()} == {"engine": ["a.x", "c.x"], "other": ["b.x"]}


def test_a_source_follows_its_interval() -> None:
    house = House(planned("a.x", 64.0))
    house.ask(0.0)
    source = house.source("a.x")
    source.plan = msgspec.structs.replace(source.plan, idle_interval_s=16.0)
    source.set_idle(True)
    house.lineup.follow_interval(source, at(20.0))
    assert house.next_poll_at("a.x", 20.0) == 32.0


def test_a_source_that_is_asked_now_is_carried_as_due_now() -> None:
    house = House(planned("a.x"), planned("b.x"))
    house.ask(0.0)
    house.lineup.hint(["a.x"], at(4.0))
    house.tick(4.0)
    ticks = house.lineup.carried(at(5.0))
    assert [(ticks[name].next_at, ticks[name].off_grid) for name in ("a.x", "b.x")] == [
        (WALL + 5.0, True),
        (WALL + 64.0, False),
    ]
    resumed = house.new_lineup()
    resumed.resume(ticks, ["b.x"], at(6.0))
    assert (names(resumed.take_due(at(6.0))["engine"]), resumed.held_back) == (["a.x"], ["b.x"])


# turns


def test_a_turn_that_ends_twice_frees_one_connection() -> None:
    house = House(planned("a.x"), planned("b.x"), planned("c.x"), connections=1)
    house.tick(0.0)
    (turn,) = house.begin_turns(0.5)
    assert (turn.began, turn.has_place) == (at(0.5), True)
    for _ in range(2):
        house.lineup.end_turn(turn)
    assert len(house.begin_turns(1.0)) == 1


def test_sources_that_are_due_together_share_a_turn_only_in_a_batch() -> None:
    alone, batch = House(planned("a.x"), planned("b.x")), House(planned("a.x"), planned("b.x"), batch=True)
    for house in (alone, batch):
        house.tick(0.0)
    assert [names(turn.group) for turn in alone.begin_turns(0.0)] == [["a.x"], ["b.x"]]
    assert [names(turn.group) for turn in batch.begin_turns(0.0)] == [["a.x", "b.x"]]
    assert batch.lineup.line_up("engine", [], at(1.0)) == []
    assert batch.begin_turns(1.0) == []


def test_a_turn_waits_as_long_as_the_source_in_it_that_was_asked_longest_ago() -> None:
    house = House(planned("a.x"), planned("b.x"), planned("c.x", breaker="other"), batch=True, connections=1)
    for seconds, name in enumerate(("a.x", "c.x", "b.x"), 1):
        house.source(name).sent(at(seconds))
    house.lineup.line_up("other", [house.source("c.x")], at(4.0))
    house.lineup.line_up("engine", [house.source("a.x"), house.source("b.x")], at(4.0))
    turn = house.lineup.next(at(4.0))
    assert turn is not None
    assert names(turn.group) == ["a.x", "b.x"]


# probes


@pytest.mark.parametrize(("batch", "asked"), [(False, ["b.x"]), (True, ["b.x", "a.x", "d.x"])])
def test_the_probe_is_who_was_asked_longest_ago_even_if_not_due_and_comes_first(batch: bool, asked: list[str]) -> None:
    others = [planned(name) for name in ("b.x", "c.x", "d.x")]
    house = House(planned("a.x"), *others, planned("e.x", breaker="other"), batch=batch)
    house.ask(0.0)
    for seconds, name in enumerate(("c.x", "b.x", "a.x", "d.x"), 1):
        house.source(name).sent(at(seconds))
    house.source("c.x").backs_off_until = 99.0
    probe_at = opened(house.breaker, 8.0)
    due = [house.source(name) for name in ("a.x", "c.x", "d.x")]
    assert house.lineup.line_up("engine", due, at(probe_at - 0.1)) == []
    house.lineup.line_up("other", [house.source("e.x")], at(probe_at))
    assert names(house.lineup.line_up("engine", due, at(probe_at))) == asked
    assert house.lineup.line_up("engine", due, at(probe_at)) == [], "one probe at a time"
    turn = house.lineup.next(at(probe_at))
    assert turn is not None
    assert names(turn.group) == asked, "before those who only wait"


def test_the_next_probe_wakes_the_poller_when_a_source_can_be_it() -> None:
    house = House(planned("a.x", 4096.0), planned("b.x", 4096.0))
    house.ask(0.0)
    assert house.lineup.wake_at() == 4096.0
    probe_at = opened(house.breaker, 16.0)
    assert house.lineup.wake_at() == probe_at
    house.source("a.x").backs_off_until = probe_at + 8.0
    house.source("b.x").backs_off_until = probe_at + 4.0
    assert house.lineup.wake_at() == probe_at + 4.0
    house.source("b.x").in_flight = True
    assert house.lineup.wake_at() == probe_at + 8.0
    house.source("a.x").in_flight = True
    assert house.lineup.wake_at() == 4096.0
    for source in house.parts.sources.values():
        source.in_flight = False
    house.lineup.line_up("engine", [], at(probe_at + 4.0))
    assert house.lineup.wake_at() == 4096.0, "it waits for its connection"
    (probe,) = house.begin_turns(probe_at + 4.0)
    house.lineup.end_turn(probe)
    assert house.lineup.wake_at() == probe_at + 4.0 + 4.0, "when the probe loses its place"


def test_the_turn_of_a_probe_that_is_withdrawn_leaves_room_for_the_next() -> None:
    house = House(planned("a.x"), planned("b.x"))
    house.ask(0.0)
    probe_at = opened(house.breaker, 16.0)
    (probe,) = house.lineup.line_up("engine", [], at(probe_at))
    house.breaker.hold(at(probe_at + 8.0))
    assert house.lineup.withdraw(at(probe_at)) == [probe]
    assert (house.lineup.held_back, probe.in_flight) == ([], False), "a breaker that is not closed gets its probe"
    assert names(house.lineup.line_up("engine", [], at(probe_at + 8.0))) == [probe.type]


# holds


def test_who_misses_a_tick_because_of_a_hold_is_asked_when_it_ends() -> None:
    house = House(planned("a.x", 16.0), planned("b.x", 64.0), planned("c.x", 32.0))
    house.ask(0.0)
    house.breaker.hold(at(20.0))
    house.source("b.x").backs_off_until = 99.0
    assert house.tick(16.0) == []
    assert house.lineup.held_back == ["a.x"]
    assert house.lineup.wake_at() == 20.0
    assert [house.next_poll_at(name, 19.0) for name in ("a.x", "b.x", "c.x")] == [20.0, 99.0, 32.0]
    house.breaker.hold(at(40.0))
    assert [house.next_poll_at(name, 19.0) for name in ("a.x", "b.x", "c.x")] == [40.0, 99.0, 40.0]
    assert [house.next_poll_at(name, 40.0) for name in ("a.x", "b.x", "c.x")] == [32.0, 99.0, 32.0], "it is over"
    assert house.tick(32.0) == []
    assert house.lineup.held_back == ["a.x", "c.x"]


@pytest.mark.parametrize(
    ("batch", "due"),
    [
        (False, {20.0: ["b.x"], 25.9: [], 26.0: ["a.x"], 35.9: [], 41.9: ["a.x", "b.x"], 42.0: ["c.x"]}),
        (True, {20.0: ["a.x", "b.x", "c.x"], 25.9: [], 26.0: []}),
    ],
)
def test_after_a_hold_those_who_missed_a_tick_are_asked_in_the_order_of_their_last_calls(
    batch: bool, due: dict[float, list[str]]
) -> None:
    others = (planned("d.x", 4096.0), planned("e.x", 4096.0, breaker="other"))
    house = House(planned("a.x", 18.0), planned("b.x", 18.0), planned("c.x", 33.0), *others, batch=batch)
    house.ask(0.0)
    for seconds, name in enumerate(("b.x", "a.x", "c.x", "e.x"), 1):
        house.source(name).sent(at(seconds))
    for breaker in house.parts.breakers.values():
        breaker.hold(at(20.0))
    for name in ("c.x", "a.x", "b.x", "e.x"):
        source = house.source(name)
        house.lineup.note_held_back([source], house.parts.breakers[source.plan.breaker], at(19.0))
    house.parts.breakers["other"].force_open(at(19.0))
    house.lineup.make_up_for_hold(at(19.9))
    assert house.lineup.held_back == ["c.x", "a.x", "b.x", "e.x"]
    house.lineup.make_up_for_hold(at(20.0))
    assert house.lineup.held_back == []
    assert {seconds: names(house.lineup.take_due(at(seconds))["engine"]) for seconds in due} == due


def test_nobody_is_held_back_without_a_hold_or_by_another_reason() -> None:
    house = House(planned("a.x"))
    house.lineup.note_held_back([house.source("a.x")], house.breaker, at(1.0))
    house.breaker.force_open(at(1.0))
    house.lineup.note_held_back([house.source("a.x")], house.breaker, at(1.0))
    assert house.lineup.held_back == []
    assert house.lineup.wake_at() == 0.0


def test_a_hold_withdraws_who_waits_and_asks_them_later() -> None:
    others = [planned("b.x"), planned("d.x")]
    house = House(planned("a.x"), *others, planned("c.x", breaker="other"), connections=1)
    house.tick(0.0)
    (first,) = house.begin_turns(0.0)
    house.breaker.hold(at(8.0))
    withdrawn = [name for name in ("a.x", "b.x", "d.x") if house.source(name) not in first.group]
    assert names(house.lineup.withdraw(at(1.0))) == withdrawn
    assert house.lineup.held_back == withdrawn
    assert [house.source(name).in_flight for name in withdrawn] == [False, False]
    assert house.begin_turns(1.0) == [], "they had no connection to give back"
    house.lineup.end_turn(first)
    assert [names(turn.group) for turn in house.begin_turns(1.0)] == [["c.x"]], "its breaker lets it through"


@pytest.mark.parametrize(("batch", "due"), [(False, [8.0 + 16.0, 8.0 + 48.0]), (True, [64.0, 64.0])])
def test_when_the_breaker_closes_its_sources_are_spread_unless_they_are_one_call(batch: bool, due: list[float]) -> None:
    house = House(planned("a.x"), planned("b.x"), batch=batch)
    house.ask(0.0)
    house.lineup.spread([house.source("a.x"), house.source("b.x")], at(8.0), lambda: 0.5)
    assert [house.next_poll_at(name, 8.0) for name in ("a.x", "b.x")] == due
