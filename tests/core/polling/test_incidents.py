"""What the log says of a backend that fails, through all the rules of polling."""

import random
from typing import Any

import msgspec
import pytest
from polling import Driven, backend_plan, source_plan

from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.call import Call
from tidegate.core.polling.decision import Note
from tidegate.core.polling.incident import STEADY_S
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.errors import ErrorCode

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE, unreachable=True)
LATE = Fault(ErrorCode.RPC_TIMEOUT, "no answer within 2 s", Verdict.FAILURE)
MISSING = Fault(ErrorCode.RPC_HTTP_STATUS, "expected status 200, got 404", Verdict.ALIVE)
REFUSED = Fault(ErrorCode.RPC_AUTH, "expected status 200, got 401", Verdict.ALIVE)

Line = tuple[float, str, str, dict[str, Any]]


class Logged(Driven):
    """A backend of so many sources, "s.0" and so on, whose log is kept."""

    def __init__(self, sources: int, *, retry_s: float = 1.0, own: bool = False) -> None:
        plans = [source_plan(f"s.{n}", 5.0, breaker=f"engine/s.{n}" if own else "engine") for n in range(sources)]
        self.types = [plan.spec.type for plan in plans]
        self.log: list[Line] = []
        self.opened = 0
        super().__init__(backend_plan(*plans, rules=BreakerRules(), retry_s=retry_s))
        self.passes(10.0)
        self.log.clear()

    def take(self, decision: Any) -> Any:
        self.log += [_line(self.now.mono, note) for note in decision.notes if note.level != "debug"]
        self.opened += sum(note.event == "breaker moved" and note.fields["state"] == "open" for note in decision.notes)
        return super().take(decision)

    def all_answer(self, fault: Fault | None, seconds: float) -> None:
        """All sources fail with `fault`, or are answered, for so long."""
        self.answers = {} if fault is None else dict.fromkeys(self.types, fault)
        self.passes(seconds)

    def events(self) -> list[str]:
        return [event for _, _, event, _ in self.log]

    def the(self, event: str) -> dict[str, Any]:
        (found,) = [fields for _, _, said, fields in self.log if said == event]
        return found


def _line(at: float, note: Note) -> Line:
    return at, note.level, note.event, dict(note.fields)


def test_a_dead_backend_of_a_hundred_sources_is_one_line_and_its_end_another() -> None:
    house = Logged(100)
    house.all_answer(DOWN, 50.0)
    assert house.events() == ["backend failing"]
    assert house.log[0][1] == "warning"
    said = house.the("backend failing")
    assert {name: said[name] for name in ("backend", "error_code", "error", "sources", "of", "breaker", "state")} == {
        "backend": "engine",
        "error_code": "RPC_DISCONNECT",
        "error": "refused",
        "sources": 100,
        "of": 100,
        "breaker": "engine",
        "state": "open",
    }
    assert said["types"] == sorted(house.types)[:5]
    assert said["since"].startswith("2026-11-18T")
    house.all_answer(None, 60.0)
    assert house.events() == ["backend failing", "backend recovered"]
    over = house.the("backend recovered")
    assert (over["backend"], over["sources"], over["breaker_openings"]) == ("engine", 100, house.opened)
    assert house.opened > 1, "each probe that fails opens it again"
    assert over["failures"] >= 5
    assert 45.0 < over["after_s"] < 70.0
    assert over["since"] == said["since"]


def test_while_it_lasts_it_is_said_again_less_and_less_often() -> None:
    house = Logged(2)
    house.all_answer(DOWN, 6 * 3600.0)
    assert set(house.events()) == {"backend failing", "breaker moved"}
    house.log = [line for line in house.log if line[2] == "backend failing"]
    at = [round(moment - house.log[0][0]) for moment, *_ in house.log]
    assert at[:6] == [0, 60, 180, 420, 900, 1800]
    assert len(at) < 30
    assert house.log[-1][3]["for_s"] > 5 * 3600.0
    assert house.log[-1][3]["failures"] > house.log[0][3]["failures"]


def test_a_backend_that_flaps_for_an_hour_is_a_handful_of_lines_and_at_last_it_is_steady() -> None:
    house = Logged(100)
    for _ in range(120):
        house.all_answer(DOWN, 15.0)
        house.all_answer(None, 15.0)
    house.all_answer(None, STEADY_S + 60.0)
    events = house.events()
    assert events[:3] == ["backend failing", "backend recovered", "backend flapping"]
    assert set(events[2:-1]) == {"backend flapping"}
    assert events[-1] == "backend steady again"
    assert len(events) <= 12
    last = house.the("backend steady again")
    assert last["times"] == pytest.approx(120, abs=2)
    assert last["breaker_openings"] >= 100
    assert 1500.0 < last["failed_s"] < 3600.0
    house.log.clear()
    house.all_answer(DOWN, 20.0)
    assert house.events() == ["backend failing"], "that is another incident"


def test_a_failure_that_repeating_the_call_repairs_is_one_line() -> None:
    house = Logged(10)
    house.answers = {"s.3": LATE}
    while not house.state._parts.sources["s.3"].failures:
        house.passes(0.1)
    house.all_answer(None, 20.0)
    assert house.events() == ["source recovered"]
    said = house.the("source recovered")
    assert (said["type"], said["backend"], said["error_code"]) == ("s.3", "engine", "RPC_TIMEOUT")


def test_one_source_that_fails_alone_is_named_and_so_is_its_end() -> None:
    house = Logged(10)
    house.answers = {"s.3": MISSING}
    house.passes(30.0)
    said = house.the("source failing")
    assert (said["type"], said["backend"], said["error_code"]) == ("s.3", "engine", "RPC_HTTP_STATUS")
    assert (said["breaker"], said["state"]) == ("engine", "closed")
    house.all_answer(None, 20.0)
    assert house.events() == ["source failing", "source recovered"]
    assert house.the("source recovered")["failures"] > said["failures"]


def test_an_account_that_is_refused_is_one_line_however_many_sources_it_concerns() -> None:
    house = Logged(100)
    house.all_answer(REFUSED, 50.0)
    assert house.events() == ["backend failing"]
    assert house.the("backend failing")["error_code"] == "RPC_AUTH"
    assert house.the("backend failing")["state"] == "closed"


def test_a_source_that_fails_for_a_reason_of_its_own_stays_a_line_of_its_own_in_an_outage() -> None:
    house = Logged(20)
    house.answers = {"s.3": MISSING}
    house.passes(20.0)
    house.all_answer(DOWN, 30.0)
    assert house.events() == ["source failing", "source recovered", "backend failing"] or house.events() == [
        "source failing",
        "backend failing",
        "source recovered",
    ]
    house.answers = {"s.3": MISSING}
    house.passes(50.0)
    assert "backend recovered" in house.events()
    house.all_answer(None, STEADY_S + 20.0)
    assert house.log[-1][2] in {"source recovered", "source steady again"}


def test_sources_that_fail_in_another_way_than_their_backend_get_a_few_lines() -> None:
    house = Logged(30)
    house.answers = {f"s.{n}": LATE if n > 20 else DOWN for n in range(30)}
    house.latency_s = 0.5
    house.passes(50.0)
    events = house.events()
    assert events[0] == "backend failing"
    assert len(events) <= 8
    assert all(event in {"backend failing", "source failing otherwise", "breaker moved"} for event in events)


def test_an_operator_s_command_is_a_line_and_the_breaker_s_own_moves_are_details() -> None:
    house = Logged(3)
    house.take(house.state.command("engine", "force-open", house.now))
    house.passes(10.0)
    house.take(house.state.command("engine", "reset", house.now))
    house.passes(10.0)
    assert [(event, fields["reason"]) for _, _, event, fields in house.log] == [
        ("breaker moved", "force_open"),
        ("breaker moved", "reset"),
    ]


def test_the_first_opening_is_said_if_the_failures_were_said_before() -> None:
    house = Logged(2, retry_s=0.0)
    house.all_answer(DOWN, 60.0)
    assert house.events()[:2] == ["backend failing", "breaker moved"]
    assert house.the("breaker moved")["cause"] == "RPC_DISCONNECT"
    assert house.events().count("breaker moved") == 1


@pytest.mark.parametrize("is_handed_over", [False, True])
def test_what_is_removed_ends_its_incident(is_handed_over: bool) -> None:
    house = Logged(3)
    house.all_answer(DOWN, 20.0)
    house.log.clear()
    plan = house.plan
    house.take(house.state.replanning.replan(msgspec.structs.replace(plan, sources=plan.sources[1:]), house.now))
    assert house.log == [], "others fail with the same cause"
    if is_handed_over:
        house.state.replanning.release(["s.1", "s.2"], house.now)
    house.take(house.state.replanning.replan(msgspec.structs.replace(plan, sources=()), house.now))
    said = house.the("backend failing no more")
    assert (said["reason"], said["error_code"]) == ("removed by reload", "RPC_DISCONNECT")
    assert house.state._moves.incidents.due_at is None


def test_a_source_that_is_asked_in_another_way_begins_anew() -> None:
    house = Logged(2)
    house.answers = {"s.0": MISSING}
    house.passes(20.0)
    changed = source_plan("s.0", 5.0)
    changed = msgspec.structs.replace(changed, call=Call("another.method"))
    house.take(
        house.state.replanning.replan(
            msgspec.structs.replace(house.plan, sources=(changed, house.plan.sources[1])), house.now
        )
    )
    assert house.the("source failing no more")["reason"] == "changed by reload"


def test_a_backend_that_asks_for_a_pause_again_and_again_is_said_once_a_minute() -> None:
    house = Logged(20)
    busy = Fault(ErrorCode.RPC_HTTP_STATUS, "expected status 200, got 429", Verdict.FAILURE, retry_after_s=2.0)
    house.all_answer(busy, 600.0)
    assert 5 <= house.events().count("backend asked for a pause") <= 11


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_there_are_few_lines_and_the_last_says_how_it_is(seed: int, own: bool) -> None:
    """Random faults of random sources for hours, then all is well."""
    house = Logged(12, own=own)
    rng = random.Random(seed)
    for _ in range(100):
        faults = rng.choice([[], [], [DOWN], [LATE], [DOWN, LATE, MISSING], [REFUSED, MISSING]])
        house.answers = {name: rng.choice(faults) for name in house.types if faults and rng.random() < 0.7}
        house.passes(rng.choice([1.0, 8.0, 60.0]))
    hours = (house.now.mono - 10.0) / 3600.0
    house.all_answer(None, 2 * STEADY_S)
    causes = 4
    assert len(house.log) < causes * 30 * hours
    for at, _, event, _ in house.log:
        near = [one for one in house.log if at <= one[0] < at + 60.0 and one[2] == event]
        assert len(near) <= 3 * causes
    assert house.state._moves.incidents.due_at is None
    assert not house.state._moves.incidents._causes
    assert house.events()[-1].partition(" ")[2] in {"recovered", "steady again"}


def test_at_the_end_what_fails_is_said_once_more() -> None:
    house = Logged(3)
    assert house.state.open_incidents(house.now).notes == []
    house.all_answer(DOWN, 20.0)
    (note,) = house.state.open_incidents(house.now).notes
    assert (note.event, note.fields["since"]) == ("backend failing", house.the("backend failing")["since"])
    house.all_answer(None, 60.0)
    assert house.state.open_incidents(house.now).notes == []
    house.all_answer(DOWN, 20.0)
    house.all_answer(None, 60.0)
    (note,) = house.state.open_incidents(house.now).notes
    assert (note.event, note.fields["is_failing"]) == ("backend flapping", False)
