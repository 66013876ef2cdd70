"""Knocks and probes of a backend that is driven (rules 1 and 7): how soon it is seen to be back, and at what cost."""

import pytest
from polling import Driven, backend_plan, raw, source_plan

from tidegate.core.instant import Instant
from tidegate.core.measurements import KnockEnded
from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.breaker_values import BreakerRules, Reason, State
from tidegate.core.polling.outcome import Answer, Fault, Verdict
from tidegate.core.polling.turn import Knock, Turn, Why
from tidegate.errors import ErrorCode

SICK = Fault(ErrorCode.RPC_HTTP_STATUS, "500", Verdict.FAILURE)
UNREACHABLE = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE, unreachable=True)
REFUSED = Fault(ErrorCode.RPC_AUTH, "401", Verdict.ALIVE)
RULES = BreakerRules(failure_threshold=2, open_s=64.0, open_max_s=64.0)
ALONE = BreakerRules(failure_threshold=1, open_s=64.0, open_max_s=64.0)
OPENED_S = 0.51
"""When both of the first calls have failed; the breaker then stays open for 48 s. All draws are 0.5."""


def house(
    *, rules: BreakerRules = RULES, connections: int = 4, breakers: tuple[str, str] = ("engine", "engine")
) -> Driven:
    """Two sources, whose first calls find no connection."""
    sources = [
        source_plan(name, 300.0, breaker=breaker) for name, breaker in zip(("a.x", "b.x"), breakers, strict=True)
    ]
    driven = Driven(backend_plan(*sources, rules=rules, connections=connections), can_knock=True)
    driven.all_fail(UNREACHABLE)
    driven.passes(0.6)
    return driven


def results(driven: Driven) -> list[str]:
    return [each.result for each in driven.measured(KnockEnded)]


def reasons(driven: Driven) -> list[Reason]:
    return [move.reason for move in driven.breaker.history]


def begin_knock(driven: Driven) -> Knock:
    """Time passes until a knock begins, which is not over yet."""
    at = driven.state.wake_at()
    assert at is not None
    driven.sleeps(at - driven.now.mono)
    driven.take(driven.state.tick(driven.now, is_wanted=lambda _: True))
    knock = driven.state.next_knock()
    assert knock is not None
    return knock


# while it is out


def test_while_it_cannot_be_reached_it_is_knocked_at_and_not_called() -> None:
    driven = house()
    driven.passes(4.0)
    assert driven.knocks == pytest.approx([OPENED_S + n for n in (1, 2, 3, 4)])
    assert len(driven.asked) == 2
    assert results(driven) == ["unreachable"] * 4


def test_a_knock_is_no_call_and_no_event() -> None:
    driven = house()
    before, decisions = driven.breaker, len(driven.decisions)
    driven.passes(10.0)
    assert driven.breaker == before
    said = driven.decisions[decisions:]
    assert [(each.drafts, each.moves, each.notes, each.told) for each in said] == [([], [], [], {})] * len(said)


def test_without_a_way_to_knock_there_is_only_the_probe() -> None:
    driven = Driven(backend_plan(source_plan("a.x", 300.0), source_plan("b.x", 300.0), rules=RULES))
    driven.all_fail(UNREACHABLE)
    driven.passes(60.0)
    assert (driven.knocks, driven.since(1.0)) == ([], [(48.51, "a.x", Why.PROBE)])


def test_a_sick_backend_is_not_knocked_at() -> None:
    driven = Driven(backend_plan(source_plan("a.x", 300.0), source_plan("b.x", 300.0), rules=RULES), can_knock=True)
    driven.all_fail(SICK)
    driven.passes(40.0)
    assert driven.knocks == []


# once it is back


def test_a_knock_that_finds_a_connection_is_followed_by_the_probe_at_once_and_that_by_the_others() -> None:
    driven = house()
    driven.passes(10.0)
    driven.reached = True
    driven.answers.clear()
    driven.passes(2.0)
    (_, _, probe, other) = driven.since(0.0)
    assert probe == (OPENED_S + 11.0, "a.x", Why.PROBE)
    assert other == (OPENED_S + 11.01, "b.x", Why.CATCHING_UP)
    assert reasons(driven)[-2:] == [Reason.REACHABLE, Reason.PROBE_SUCCEEDED]
    assert results(driven)[-1] == "reachable"


def test_knock_and_probe_take_one_place_of_the_connections() -> None:
    driven = house(connections=1)
    driven.passes(0.7)
    knock = begin_knock(driven)
    assert not driven.state._lineup.line.has_room
    turn, _ = driven.state.knocked(knock, driven.now, reached=True)
    assert turn is not None
    assert (turn.has_place, turn.reached, turn.why, turn.ticks) == (True, True, Why.PROBE, set())
    assert not driven.state._lineup.line.has_room
    driven.take(driven.state.admit(turn, driven.now))
    driven.take(driven.state.ended(turn, [(Answer(raw(0)), raw(0))], driven.now))
    assert driven.state._lineup.line.has_room


def test_there_is_no_knock_while_no_place_is_free() -> None:
    driven = house(connections=1, breakers=("engine", "other"), rules=ALONE)
    turns = hang(driven, "other")
    driven.passes(20.0)
    assert driven.knocks == []
    for turn in turns:
        driven.state.abandoned(turn, driven.now)
    driven.passes(0.1)
    assert len(driven.knocks) == 1


def hang(driven: Driven, breaker_name: str) -> list[Turn]:
    """An operator lets the calls of a breaker through, and one does not end."""
    driven.take(driven.state.command(breaker_name, "force-closed", driven.now))
    driven.take(driven.state.tick(driven.now, is_wanted=lambda _: True))
    turns = list(iter(lambda: driven.state.next_turn(driven.now), None))
    for turn in turns:
        driven.take(driven.state.admit(turn, driven.now))
    return turns


def test_there_is_none_while_the_backend_is_held() -> None:
    driven = house()
    for breaker in driven.state._breakers.values():
        breaker.hold(Instant(30.0, driven.now.wall + 30.0 - driven.now.mono))
    driven.passes(29.0)
    assert driven.knocks == []
    driven.passes(3.0)
    assert driven.knocks == [31.0, 32.0], "and a gap after that it goes on"


def test_there_is_none_while_all_its_sources_wait_after_a_refused_account() -> None:
    driven = house()
    for source in driven.state._sources.values():
        source.calls.waits_until = 20.0
    driven.passes(19.0)
    assert driven.knocks == []
    driven.passes(2.0)
    assert driven.knocks[0] == pytest.approx(20.0)


# it is dropped


def test_if_the_time_of_the_probe_comes_during_a_knock_that_is_dropped_and_the_probe_goes() -> None:
    driven = house(connections=1, rules=BreakerRules(failure_threshold=2, open_s=2.0, open_max_s=64.0))
    knock = begin_knock(driven)
    assert driven.now.mono < OPENED_S + 1.5
    driven.answers.clear()
    driven.passes(1.0)
    assert (knock.is_over, results(driven)) == (True, ["dropped"])
    assert driven.since(1.0)[0] == (OPENED_S + 0.01 + 1.5, "a.x", Why.PROBE), "the second call waited for the first"
    assert driven.state.knocked(knock, driven.now, reached=True)[0] is None, "what it finds counts no longer"


@pytest.mark.parametrize("action", ["force-open", "force-closed", "reset"])
def test_an_override_drops_it_and_what_it_finds_changes_nothing(action: str) -> None:
    driven = house()
    knock = begin_knock(driven)
    driven.take(driven.state.command("engine", action, driven.now))  # type: ignore[arg-type]
    driven.take(driven.state.tick(driven.now, is_wanted=lambda _: True))
    assert (knock.is_over, results(driven)) == (True, ["dropped"])
    before = driven.breaker
    turn, decision = driven.state.knocked(knock, driven.now, reached=True)
    assert (turn, decision.measurements, driven.breaker) == (None, [], before)
    driven.state.knock_abandoned(knock, driven.now)


def test_a_knock_that_was_cancelled_frees_its_place_once() -> None:
    driven = house(connections=1)
    knock = begin_knock(driven)
    for _ in range(2):
        driven.state.knock_abandoned(knock, driven.now)
    places = driven.state._lineup.line._places
    assert (places.take(), places.take()) == (True, False)


def test_while_the_bus_is_stuck_there_is_no_knock_and_nothing_wakes_for_it() -> None:
    driven = house()
    at = driven.state.wake_at()
    assert at is not None
    driven.sleeps(at - driven.now.mono)
    driven.take(driven.state.tick(driven.now, is_wanted=lambda _: True, only_news=True))
    assert driven.state.next_knock() is None
    wake_at = driven.state.wake_at()
    assert wake_at is not None
    assert wake_at > driven.now.mono
    driven.take(driven.state.tick(driven.now, is_wanted=lambda _: True))
    assert driven.state.next_knock() is not None


# several breakers


def test_one_knock_lets_the_probes_of_all_breakers_go_that_wanted_it() -> None:
    driven = house(breakers=("engine", "other"), rules=ALONE)
    driven.reached = True
    driven.answers.clear()
    driven.passes(1.0)
    assert driven.knocks == pytest.approx([OPENED_S + 1.0])
    assert sorted(name for _, name, why in driven.since(1.0) if why is Why.PROBE) == ["a.x", "b.x"]
    assert all(view.is_closed for view in driven.state.breakers(driven.now))
    assert results(driven) == ["reachable"]


def test_a_sick_breaker_of_the_same_backend_waits_for_its_time() -> None:
    driven = house(breakers=("engine", "other"), rules=ALONE)
    driven.state._breakers["other"].reset(driven.now)
    driven.answers["b.x"] = SICK
    driven.state.hint(["b.x"], driven.now)
    driven.passes(0.1)
    driven.reached = True
    driven.answers.clear()
    driven.passes(2.0)
    assert [view.state for view in driven.state.breakers(driven.now)] == [State.CLOSED, State.OPEN]


# carried


def test_whoever_takes_it_over_knocks_at_once() -> None:
    """Rule 10."""
    driven = house()
    driven.passes(30.0)
    carried = driven.state.carried(driven.now)
    driven.state = BackendState(
        driven.plan, now=driven.now, draw=lambda: 0.5, keeps=False, can_knock=True, carried=carried
    )
    driven.knocks.clear()
    driven.reached = True
    driven.answers.clear()
    driven.passes(0.2)
    assert driven.knocks == [driven.now.mono - 0.2]
    assert driven.breaker.is_closed


# a poke


def test_a_poke_lets_the_probe_go_now_and_a_start_script_that_ends_with_it_makes_the_backend_fresh() -> None:
    """Rule 7."""
    driven = house()
    driven.all_fail(SICK)
    driven.passes(5.0)
    driven.answers.clear()
    driven.state.hint(["b.x"], driven.now)
    before = driven.now.mono
    driven.passes(0.2)
    assert driven.since(before) == [(5.6, "a.x", Why.PROBE), (5.61, "b.x", Why.CATCHING_UP)]
    assert reasons(driven)[-2:] == [Reason.POKE, Reason.PROBE_SUCCEEDED]
    assert [view.stale for view in driven.state.sources(driven.now)] == [False, False]


def test_more_pokes_change_nothing_for_ten_seconds() -> None:
    driven = Driven(backend_plan(source_plan("a.x", 300.0), source_plan("b.x", 300.0), rules=RULES), can_knock=True)
    driven.all_fail(SICK)
    driven.passes(2.0)
    poked = []
    for _ in range(25):
        driven.state.hint(["a.x"], driven.now)
        before = driven.now.mono
        driven.passes(1.0)
        poked += [at for at, _, _ in driven.since(before)]
    assert poked == [2.0, 12.0, 22.0]
    assert driven.breaker.open_count == 4, "what such a probe does counts like any other"


@pytest.mark.parametrize("kept_by", ["hold", "override"])
def test_a_poke_does_not_ask_a_backend_that_is_held_or_kept_open(kept_by: str) -> None:
    driven = house()
    if kept_by == "hold":
        driven.state._breakers["engine"].hold(Instant(90.0, driven.now.wall + 89.4))
    else:
        driven.take(driven.state.command("engine", "force-open", driven.now))
    driven.state.hint(["a.x", "b.x"], driven.now)
    driven.passes(20.0)
    assert len(driven.asked) == 2


def test_an_account_that_is_refused_is_poked_once_a_minute() -> None:
    """Rule 3: an expired token under a poke every second."""
    driven = Driven(backend_plan(source_plan("a.x", 300.0), source_plan("b.x", 300.0), rules=RULES))
    driven.all_fail(REFUSED)
    driven.passes(1.0)
    for _ in range(600):
        driven.state.hint(["a.x", "b.x"], driven.now)
        driven.passes(1.0)
    assert len(driven.asked) <= 2 + 2 + 10 + 2 * 8, "ticks, one in a minute, and where waits ended by themselves"


def test_a_secret_file_that_is_written_with_other_bytes_is_tried_within_a_second_by_one_and_then_by_all() -> None:
    """Rule 3."""
    sources = [source_plan(name, 300.0) for name in ("a.x", "b.x", "c.x")]
    driven = Driven(backend_plan(*sources, rules=RULES))
    driven.all_fail(REFUSED)
    for _ in range(5):
        driven.passes(1.0)
        driven.state.hint(["a.x"], driven.now)
    for source in driven.state._sources.values():
        source.calls.waits_until = 200.0
    driven.passes(10.0)
    before, calls = driven.now.mono, len(driven.asked)
    driven.secret = b"new"
    driven.answers.clear()
    driven.passes(2.0)
    tried = driven.since(before)
    assert (len(driven.asked) - calls, [why for _, _, why in tried]) == (
        3,
        [Why.ASKED_FOR, Why.CATCHING_UP, Why.CATCHING_UP],
    )
    assert tried[0][0] <= before + 1.0
