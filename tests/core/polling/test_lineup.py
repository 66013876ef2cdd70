"""Whom a backend's poller asks next: by ticks, as the probe of a breaker, after a hold, once it is back."""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise

import msgspec
import pytest
from polling import backend_plan, breaker_view, call_ended, raw, source_plan

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.measurements import RepetitionEnded, TicksMissed
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerRules, State
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.lineup import Lineup
from tidegate.core.polling.outcome import Answer, Fault, Verdict
from tidegate.core.polling.permit import Permit
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Turn, Why
from tidegate.errors import ErrorCode

WALL = 1_795_000_000.0
DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
RULES = BreakerRules(failure_threshold=2, open_s=8.0, open_max_s=8.0)


def at(seconds: float) -> Instant:
    return Instant(seconds, WALL + seconds)


def planned(name: str, interval_s: float = 64.0, *, breaker: str = "engine") -> SourcePlan:
    return source_plan(name, interval_s, breaker=breaker)


class House:
    """The lineup of one backend, with its sources and breakers. First polls are due at 0 s: all draws are 0."""

    def __init__(
        self,
        *sources: SourcePlan,
        batch: bool = False,
        connections: int = 9,
        retry_s: float = 0.0,
        knocks: bool = False,
    ) -> None:
        self.plan = backend_plan(*sources, rules=RULES, batch=batch, connections=connections, retry_s=retry_s)
        self.parts = BackendParts(self.plan, keeps=False, carried=None, now=at(0.0))
        self.lineup = self.new_lineup(knocks=knocks)
        self.lineup.begin(at(0.0))
        self.out = Decision()

    def new_lineup(self, *, draw: Callable[[], float] = lambda: 0.0, knocks: bool = False) -> Lineup:
        return Lineup(self.plan, self.parts, draw=draw, can_knock=knocks)

    @property
    def breaker(self) -> Breaker:
        return self.parts.breakers["engine"]

    def source(self, name: str) -> Source:
        return self.parts.sources[name]

    def count_missed(self, name: str, into: Decision) -> None:
        self.lineup.punctuality.count_missed(self.source(name), self.lineup.schedule.missed(name), into)

    def tick(self, seconds: float) -> list[str]:
        """Line up who is due, in whatever way; return whose tick it is, or who is the probe."""
        asked: list[str] = []
        for name, due in self.lineup.take_due(at(seconds)).items():
            asked += names(self.line_up(name, due, seconds))
        self.lineup.line_up_others(at(seconds), self.out)
        return asked

    def line_up(self, breaker: str, ticked: Sequence[Source], seconds: float) -> Collection[Source]:
        return self.lineup.line_up(breaker, ticked, at(seconds), self.out)

    def begin_turns(self, seconds: float) -> list[Turn]:
        """Send every call for which there is a connection."""
        turns = list(iter(lambda: self.lineup.line.next(at(seconds)), None))
        for turn in turns:
            permit = turn.breaker.permit(at(seconds), reached=turn.reached, timeout_s=2.0)
            self.lineup.line.forget_probe(turn)
            assert isinstance(permit, Permit)
            turn.permit = permit
            for source in turn.group:
                source.calls.sent(at(seconds), at_tick=source in turn.ticks, timeout_s=2.0)
        return turns

    def end(self, turns: Sequence[Turn], *, answered: bool | None = True) -> None:
        for turn in turns:
            turn.answered = answered
            self.lineup.line.end(turn)

    def ask(self, seconds: float) -> list[str]:
        """Ask everybody who is due, and get an answer at once."""
        self.tick(seconds)
        turns = self.begin_turns(seconds)
        self.end(turns)
        return [source.type for turn in turns for source in turn.group]

    def next_poll_at(self, name: str, seconds: float) -> float:
        return self.lineup.next_poll_at(self.source(name), self.breaker.view(), at(seconds))

    def answers(self, name: str, seconds: float) -> None:
        """It was asked then, at its tick, and answered at once."""
        self.sent(name, seconds)
        view = self.breaker.view()
        outcome = Answer(raw(1))
        self.source(name).ended(
            outcome, raw(1), sent=at(seconds), now=at(seconds), breaker=view, draw=lambda: 0.0, into=Decision()
        )

    def sent(self, name: str, seconds: float) -> None:
        """It was asked then, at its tick."""
        self.source(name).calls.sent(at(seconds), at_tick=True, timeout_s=2.0)

    def wake_at(self) -> float:
        woken = self.lineup.wake_at()
        assert woken is not None
        return woken


def names(sources: Iterable[Source]) -> list[str]:
    return [source.type for source in sources]


def opened(breaker: Breaker, seconds: float) -> float:
    """Two failures open the breaker. Returns when it lets a probe through."""
    for _ in range(2):
        permit = breaker.permit(at(seconds), timeout_s=2.0)
        assert isinstance(permit, Permit)
        breaker.record(permit, Verdict.FAILURE, now=at(seconds), jitter=0.0, fault=DOWN)
    assert breaker.retry_at_mono is not None
    return breaker.retry_at_mono


# ticks


def test_sources_with_the_same_interval_are_first_due_together() -> None:
    house = House(planned("a.x"), planned("b.x", 0.5), planned("c.x"))
    draws = iter([0.25, 0.5, 0.75])
    lineup = house.new_lineup(draw=lambda: next(draws))
    lineup.begin(at(0.0))
    due = {seconds: names(lineup.take_due(at(seconds))["engine"]) for seconds in (0.24, 0.25, 0.26)}
    assert due == {0.24: [], 0.25: ["a.x", "b.x", "c.x"], 0.26: []}, "a share of a second, or of the interval"


def test_a_tick_during_a_call_is_missed_and_each_is_measured_once() -> None:
    house = House(planned("a.x", 8.0))
    house.tick(0.0)
    measured = Decision()
    for seconds in (8.0, 16.0, 40.0):
        assert house.tick(seconds) == []
        house.count_missed("a.x", measured)
        house.count_missed("a.x", measured)
    assert measured.measurements == [TicksMissed("a.x", 1), TicksMissed("a.x", 1), TicksMissed("a.x", 3)]
    assert (house.lineup.schedule.missed("a.x"), house.source("a.x").missed_counted) == (5, 5)


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
    house.lineup.schedule.set_interval(source.type, source.interval_s, 20.0)
    assert house.next_poll_at("a.x", 20.0) == 32.0


def test_a_source_that_is_asked_now_is_carried_as_due_now() -> None:
    house = House(planned("a.x"), planned("b.x"))
    house.ask(0.0)
    house.lineup.ask([house.source("a.x")])
    assert house.lineup.due == ["a.x"], "it waits"
    house.tick(4.0)
    assert house.lineup.due == ["a.x"], "it is being asked"
    ticks = {name: house.lineup.schedule.carried(name, at(5.0)) for name in house.parts.sources}
    assert [ticks[name].next_at for name in ("a.x", "b.x")] == [WALL + 64.0, WALL + 64.0], "its grid stays"
    house.source("a.x").calls.end_turn()  # by the time that it is resumed
    resumed = house.new_lineup()
    resumed.resume(ticks, held_back=["b.x"], due=["a.x"], now=at(6.0))
    assert (resumed.wake_at(), resumed.held_back, resumed.due) == (LONG_AGO, ["b.x"], ["a.x"])
    resumed.line_up_others(at(6.0), house.out)
    turns = list(iter(lambda: resumed.line.next(at(6.0)), None))
    assert [(names(turn.group), turn.why) for turn in turns] == [(["a.x"], Why.CATCHING_UP)], "one after the other"


# turns


def test_a_turn_that_ends_twice_frees_one_connection() -> None:
    house = House(planned("a.x"), planned("b.x"), planned("c.x"), connections=1)
    house.tick(0.0)
    (turn,) = house.begin_turns(0.5)
    assert (turn.began, turn.has_place) == (at(0.5), True)
    for _ in range(2):
        house.lineup.line.end(turn)
    assert len(house.begin_turns(1.0)) == 1


def test_sources_that_are_due_together_share_a_turn_only_in_a_batch() -> None:
    alone, batch = House(planned("a.x"), planned("b.x")), House(planned("a.x"), planned("b.x"), batch=True)
    for house in (alone, batch):
        house.tick(0.0)
    assert [names(turn.group) for turn in alone.begin_turns(0.0)] == [["a.x"], ["b.x"]]
    assert [names(turn.group) for turn in batch.begin_turns(0.0)] == [["a.x", "b.x"]]
    assert not batch.line_up("engine", [], 1.0)
    assert batch.begin_turns(1.0) == []


def test_a_turn_waits_as_long_as_the_source_in_it_that_was_asked_longest_ago() -> None:
    house = House(planned("a.x"), planned("b.x"), planned("c.x", breaker="other"), batch=True, connections=1)
    for seconds, name in enumerate(("a.x", "c.x", "b.x"), 1):
        house.sent(name, seconds)
    house.line_up("other", [house.source("c.x")], 4.0)
    house.line_up("engine", [house.source("a.x"), house.source("b.x")], 4.0)
    turn = house.lineup.line.next(at(4.0))
    assert turn is not None
    assert names(turn.group) == ["a.x", "b.x"]


# probes


@pytest.mark.parametrize(("batch", "asked"), [(False, ["b.x"]), (True, ["b.x", "a.x", "d.x"])])
def test_the_probe_is_who_was_asked_longest_ago_even_if_not_due_and_comes_first(batch: bool, asked: list[str]) -> None:
    others = [planned(name) for name in ("b.x", "c.x", "d.x")]
    house = House(planned("a.x"), *others, planned("e.x", breaker="other"), batch=batch)
    house.ask(0.0)
    for seconds, name in enumerate(("c.x", "b.x", "a.x", "d.x"), 1):
        house.sent(name, seconds)
    house.source("c.x").calls.waits_until = 99.0
    probe_at = opened(house.breaker, 8.0)
    due = [house.source(name) for name in ("a.x", "c.x", "d.x")]
    assert house.line_up("engine", due, probe_at - 0.1) == []
    house.line_up("other", [house.source("e.x")], probe_at)
    assert names(house.line_up("engine", due, probe_at)) == asked
    assert house.line_up("engine", due, probe_at) == [], "one probe at a time"
    turn = house.lineup.line.next(at(probe_at))
    assert turn is not None
    assert names(turn.group) == asked, "before those who only wait"


def test_the_next_probe_wakes_the_poller_when_a_source_can_be_it() -> None:
    house = House(planned("a.x", 4096.0), planned("b.x", 4096.0))
    house.ask(0.0)
    assert house.lineup.wake_at() == 4096.0
    probe_at = opened(house.breaker, 16.0)
    assert house.lineup.wake_at() == probe_at
    house.source("a.x").calls.waits_until = probe_at + 8.0
    house.source("b.x").calls.waits_until = probe_at + 4.0
    assert house.lineup.wake_at() == probe_at + 4.0
    house.source("b.x").calls.in_flight = True
    assert house.lineup.wake_at() == probe_at + 8.0
    house.source("a.x").calls.in_flight = True
    assert house.lineup.wake_at() == 4096.0
    for source in house.parts.sources.values():
        source.calls.in_flight = False
    house.line_up("engine", [], probe_at + 4.0)
    assert house.lineup.wake_at() == 4096.0, "it waits for its connection"
    (probe,) = house.begin_turns(probe_at + 4.0)
    house.lineup.line.end(probe)
    assert house.lineup.wake_at() == probe_at + 4.0 + 2.0 + 1.0, "when the probe loses its place"


def test_the_turn_of_a_probe_that_is_withdrawn_leaves_room_for_the_next() -> None:
    house = House(planned("a.x"), planned("b.x"))
    house.ask(0.0)
    probe_at = opened(house.breaker, 16.0)
    (probe,) = house.line_up("engine", [], probe_at)
    house.breaker.hold(at(probe_at + 8.0))
    assert [turn.group for turn in house.lineup.withdraw(at(probe_at))] == [[probe]]
    assert (house.lineup.held_back, probe.calls.in_flight) == ([], False), "a breaker that is not closed gets its probe"
    assert names(house.line_up("engine", [], probe_at + 8.0)) == [probe.type]


# holds


def test_who_misses_a_tick_because_of_a_hold_is_asked_when_it_ends() -> None:
    house = House(planned("a.x", 16.0), planned("b.x", 64.0), planned("c.x", 32.0))
    house.ask(0.0)
    house.breaker.hold(at(20.0))
    house.source("b.x").calls.waits_until = 99.0
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
        (False, [(20.0, "b.x"), (21.02, "a.x"), (22.04, "c.x")]),
        (True, [(20.0, "b.x a.x"), (21.02, "c.x")]),
    ],
)
def test_after_a_hold_those_who_missed_a_tick_are_asked_at_the_normal_rate_longest_ago_first(
    batch: bool, due: list[tuple[float, str]]
) -> None:
    """Rule 5: a rate limiter is not a recovery."""
    others = (planned("d.x", 4096.0), planned("e.x", 4096.0, breaker="other"))
    house = House(planned("a.x", 18.0), planned("b.x", 18.0), planned("c.x", 33.0), *others, batch=batch)
    house.ask(0.0)
    for asked_at, name in enumerate(("b.x", "a.x", "c.x", "e.x"), 1):
        house.answers(name, asked_at)
    for breaker in house.parts.breakers.values():
        breaker.hold(at(20.0))
    for name in ("c.x", "a.x", "b.x", "e.x"):
        source = house.source(name)
        house.lineup.refused([source], house.parts.breakers[source.plan.breaker], at(19.0))
    house.parts.breakers["other"].force_open(at(19.0))
    house.lineup.line_up_others(at(19.9), house.out)
    assert house.lineup.held_back == ["c.x", "a.x", "b.x", "e.x"]
    house.lineup.take_due(at(19.9))
    seen: list[tuple[float, str]] = []
    for step in range(400):
        seconds = 20.0 + step / 100
        house.lineup.line_up_others(at(seconds), house.out)
        turns = house.begin_turns(seconds)
        seen += [(seconds, " ".join(names(turn.group))) for turn in turns]
        house.end(turns)
    assert (seen, house.lineup.held_back) == (due, [])


def test_nobody_is_held_back_without_a_hold_or_by_another_reason() -> None:
    house = House(planned("a.x"))
    house.lineup.refused([house.source("a.x")], house.breaker, at(1.0))
    house.breaker.force_open(at(1.0))
    house.lineup.refused([house.source("a.x")], house.breaker, at(1.0))
    assert house.lineup.held_back == []
    assert house.lineup.wake_at() == 0.0


def test_a_hold_withdraws_who_waits_and_asks_them_later() -> None:
    others = [planned("b.x"), planned("d.x")]
    house = House(planned("a.x"), *others, planned("c.x", breaker="other"), connections=1)
    house.tick(0.0)
    (first,) = house.begin_turns(0.0)
    house.breaker.hold(at(8.0))
    withdrawn = [name for name in ("a.x", "b.x", "d.x") if house.source(name) not in first.group]
    assert [names(turn.group) for turn in house.lineup.withdraw(at(1.0))] == [[name] for name in withdrawn]
    assert house.lineup.held_back == withdrawn
    assert [house.source(name).calls.in_flight for name in withdrawn] == [False, False]
    assert house.begin_turns(1.0) == [], "they had no connection to give back"
    house.lineup.line.end(first)
    assert [names(turn.group) for turn in house.begin_turns(1.0)] == [["c.x"]], "its breaker lets it through"


# catching up, and the grid


def catch_up(house: House, seconds: float) -> None:
    house.lineup.catch_up(house.breaker, house.breaker.view(), at(seconds))


def asked_between(house: House, begin: float, end: float) -> list[tuple[float, list[str], Why]]:
    """Who is asked when and why, every call answered at once, on a grid of 1/100 s."""
    seen = []
    for step in range(round((end - begin) * 100)):
        seconds = round(begin + step / 100, 2)
        house.tick(seconds)
        for turn in house.begin_turns(seconds):
            seen.append((seconds, names(turn.group), turn.why))
            house.end([turn])
    return seen


def test_the_longest_unanswered_are_caught_up_first_then_those_never_answered_then_those_that_fail_alone() -> None:
    """Rule 5."""
    house = House(*(planned(name, 4096.0) for name in ("a.x", "b.x", "c.x", "d.x", "e.x")))
    house.lineup.take_due(at(0.0))
    house.answers("c.x", 1.0)
    house.answers("b.x", 2.0)
    house.answers("e.x", 0.5)
    fails = Fault(ErrorCode.RPC_HTTP_STATUS, "404", Verdict.ALIVE)
    call_ended(house.source("e.x"), fails, at(3.0))
    for name in ("a.x", "b.x", "c.x", "d.x"):
        call_ended(house.source(name), DOWN, at(4.0), breaker=breaker_view(State.OPEN))
    catch_up(house, 5.0)
    order = [group for _, group, why in asked_between(house, 5.0, 6.0) if why is Why.CATCHING_UP]
    assert order == [["c.x"], ["b.x"], ["a.x"], ["d.x"], ["e.x"]]


def test_a_fresh_source_is_caught_up_only_if_it_had_a_tick_refused() -> None:
    """Rule 5."""
    house = House(planned("a.x", 16.0), planned("b.x", 64.0))
    house.lineup.take_due(at(0.0))
    for name in ("a.x", "b.x"):
        house.answers(name, 1.0)
    probe_at = opened(house.breaker, 8.0)
    house.tick(16.0 if probe_at > 16.0 else probe_at - 0.1)
    house.lineup.refused([house.source("a.x")], house.breaker, at(probe_at - 0.1))
    house.breaker.reset(at(probe_at))
    catch_up(house, probe_at)
    assert list(names(house.lineup._catching_up.waiting)) == ["a.x"]


def test_a_batch_catches_up_one_interval_after_the_other() -> None:
    """Rule 5."""
    house = House(planned("a.x", 64.0), planned("b.x", 32.0), planned("c.x", 64.0), batch=True)
    house.lineup.take_due(at(0.0))
    catch_up(house, 1.0)
    assert [group for _, group, _ in asked_between(house, 1.0, 2.0)] == [["a.x", "c.x"], ["b.x"]]


def test_a_source_that_waits_to_be_caught_up_is_asked_there_and_not_by_its_tick() -> None:
    """Rule 6. Its stale event is said again all the same: `line_up` did not ask it."""
    house = House(planned("a.x", 16.0), planned("b.x", 16.0))
    house.lineup.take_due(at(0.0))
    catch_up(house, 15.99)
    house.lineup.line_up_others(at(15.99), house.out)
    (first,) = house.begin_turns(15.99)
    (waiting,) = {"a.x", "b.x"} - {source.type for source in first.group}
    due = house.lineup.take_due(at(16.0))["engine"]
    assert waiting not in names(house.line_up("engine", due, 16.0))
    house.end([first])
    assert [group for _, group, why in asked_between(house, 16.05, 17.0) if why is Why.CATCHING_UP] == [[waiting]]


@pytest.mark.parametrize(("asked_at", "is_asked"), [(11.9, True), (12.0, True), (12.1, False), (15.9, False)])
def test_a_tick_less_than_half_an_interval_after_a_call_off_the_grid_makes_no_call(
    asked_at: float, is_asked: bool
) -> None:
    """Rule 6: and is not missed."""
    house = House(planned("a.x", 8.0))
    house.ask(0.0)
    house.ask(8.0)
    house.lineup.ask([house.source("a.x")])
    assert house.ask(asked_at) == ["a.x"]
    assert (house.ask(16.0), house.lineup.schedule.missed("a.x")) == (["a.x"] if is_asked else [], 0)
    assert house.ask(24.0) == ["a.x"], "it is never skipped twice"


def test_a_call_on_the_grid_never_costs_a_tick() -> None:
    """Rule 6: also if it was late, or the probe."""
    house = House(planned("a.x", 8.0))
    house.ask(0.0)
    assert [house.ask(8.9), house.ask(16.0), house.ask(24.0)] == [["a.x"]] * 3


def test_those_whose_ticks_come_late_are_caught_up_and_not_asked_in_a_burst() -> None:
    """Rule 8: this machine slept, and all other sources are late too."""
    house = House(*(planned(f"s{n}.x", 8.0) for n in range(6)))
    house.ask(0.0)
    seen = asked_between(house, 30.0, 30.5)
    assert [group for _, group, _ in seen] == [[f"s{n}.x"] for n in range(6)]
    assert {why for _, _, why in seen} == {Why.CATCHING_UP}
    times = [seconds for seconds, _, _ in seen]
    assert all(later - earlier > 0.04 for earlier, later in pairwise(times))
    assert [house.lineup.schedule.missed(source.type) for source in house.parts.sources.values()] == [2] * 6
    assert [group for _, group, why in asked_between(house, 31.9, 32.1) if why is Why.TICK] == [], "rule 6"


def test_a_tick_that_is_a_second_late_is_a_tick() -> None:
    """Rule 8."""
    house = House(planned("a.x", 8.0))
    house.ask(0.0)
    assert house.tick(9.0) == ["a.x"]


def test_a_hold_ends_catching_up_and_those_who_are_left_are_asked_after_it_at_the_normal_rate() -> None:
    """Rule 5."""
    house = House(*(planned(name, 64.0) for name in ("a.x", "b.x", "c.x")))
    house.lineup.take_due(at(0.0))
    catch_up(house, 1.0)
    assert house.tick(1.0) == []
    house.end(house.begin_turns(1.0))
    house.breaker.hold(at(4.0))
    house.lineup.hold()
    assert house.lineup.held_back == ["b.x", "c.x"]
    assert asked_between(house, 1.1, 4.0) == []
    assert [(seconds, group) for seconds, group, _ in asked_between(house, 4.0, 8.0)] == [
        (4.0, ["b.x"]),
        (5.02, ["c.x"]),
    ]


def test_an_opening_ends_catching_up_and_the_repetitions() -> None:
    """Rules 4 and 5."""
    house = House(planned("a.x", 64.0), planned("b.x", 64.0, breaker="other"), retry_s=1.0)
    house.lineup.take_due(at(0.0))
    for name in ("a.x", "b.x"):
        call_ended(house.source(name), DOWN, at(1.0))
        house.lineup.repeat([house.source(name)], unreachable=False, now=at(1.0))
    catch_up(house, 1.0)
    house.lineup.stop([house.source("a.x")])
    assert house.lineup.due == ["b.x"]
    assert [group for _, group, _ in asked_between(house, 1.0, 5.0)] == [["b.x"]]


def test_a_repetition_goes_only_into_a_place_that_nobody_waits_for() -> None:
    """Rule 4."""
    house = House(planned("a.x", 64.0), planned("b.x", 64.0), connections=1, retry_s=1.0)
    house.lineup.take_due(at(0.0))
    call_ended(house.source("a.x"), DOWN, at(1.0))
    house.lineup.repeat([house.source("a.x")], unreachable=False, now=at(1.0))
    house.lineup.ask([house.source("b.x")])
    house.tick(1.5)
    (busy,) = house.begin_turns(1.5)
    house.tick(3.0)
    assert house.out.measurements == [RepetitionEnded("engine", "no_room")]
    house.end([busy])
    assert asked_between(house, 3.1, 6.0) == [], "it waits for its tick"


def test_who_waits_after_a_refused_account_is_not_asked_for_any_reason() -> None:
    """Rule 3: no recovery, probe or end of a hold ends that wait."""
    house = House(planned("a.x", 8.0), planned("b.x", 8.0))
    house.ask(0.0)
    house.source("a.x").calls.waits_until = 99.0
    catch_up(house, 1.0)
    house.lineup.ask([house.source("a.x")])
    house.lineup.refused([house.source("a.x")], house.breaker, at(1.0))
    probe_at = opened(house.breaker, 2.0)
    assert names(house.line_up("engine", [house.source("a.x")], probe_at)) == ["b.x"]
    house.begin_turns(probe_at)
    house.breaker.reset(at(probe_at))
    house.source("b.x").calls.end_turn()
    catch_up(house, probe_at)
    asked = {name for _, group, _ in asked_between(house, probe_at, 40.0) for name in group}
    assert asked == {"b.x"}
