"""What follows when a backend says that something changed. Hints from outside are tested with the probes."""

import pytest
from polling import Driven, backend_plan, source_plan

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.turn import Why
from tidegate.errors import ErrorCode

RULES = BreakerRules(failure_threshold=2, open_s=50.0, open_max_s=50.0)
NAMES = [f"{letter}.x" for letter in "abcdefgh"]
SICK = Fault(ErrorCode.RPC_TIMEOUT, "late", Verdict.FAILURE)
REFUSED = Fault(ErrorCode.RPC_AUTH, "who are you", Verdict.ALIVE)


def house(*, latency_s: float = 0.01) -> Driven:
    """Eight sources with rare ticks, which were all asked once."""
    plan = backend_plan(*(source_plan(name, 3600.0) for name in NAMES), rules=RULES)
    driven = Driven(plan, latency_s=latency_s)
    driven.passes(10.0)
    return driven


def test_what_changed_is_asked_at_once_and_nothing_else() -> None:
    driven = house()
    driven.state.changed(["b.x"], driven.now)
    driven.passes(100.0)
    assert driven.since(10.0) == [(10.0, "b.x", Why.CATCHING_UP)]


def test_all_of_them_are_asked_one_after_the_other() -> None:
    driven = house()
    driven.state.changed(NAMES, driven.now)
    driven.passes(0.04)
    assert len(driven.since(10.0)) == 1
    driven.passes(1.0)
    assert [name for _, name, _ in driven.since(10.0)] == NAMES


def test_a_change_during_a_call_leads_to_one_more_after_it() -> None:
    driven = house(latency_s=1.0)
    driven.state.hint(["b.x"], driven.now)
    for _ in range(5):
        driven.passes(0.1)
        driven.state.changed(["b.x"], driven.now)
    driven.passes(10.0)
    assert [at for at, _, _ in driven.since(10.0)] == [10.0, 11.0]


def test_it_lets_no_probe_go_but_what_changed_is_asked_when_the_breaker_closes() -> None:
    driven = house()
    driven.answers = {"a.x": SICK, "b.x": SICK}
    driven.state.hint(["a.x", "b.x"], driven.now)
    driven.passes(1.0)
    assert not driven.breaker.is_closed
    for _ in range(20):
        driven.state.changed(["c.x", "d.x"], driven.now)
        driven.passes(1.0)
    assert [name for _, name, _ in driven.since(10.0)] == ["a.x", "b.x"]
    driven.answers.clear()
    driven.passes(60.0)
    assert driven.breaker.is_closed
    assert {"c.x", "d.x"} <= {name for _, name, _ in driven.since(11.0)}


def test_it_waits_for_the_end_of_a_hold() -> None:
    driven = house()
    driven.state._breakers["engine"].hold(Instant(30.0, driven.now.wall + 20.0))
    driven.state.changed(["b.x"], driven.now)
    driven.passes(60.0)
    [(at, name, _)] = driven.since(10.0)
    assert name == "b.x"
    assert at == pytest.approx(30.0, abs=0.1)


def test_an_account_that_was_refused_is_not_tried_again_because_the_backend_says_so() -> None:
    driven = house()
    driven.answers["b.x"] = REFUSED
    driven.state.hint(["b.x"], driven.now)
    driven.passes(0.1)
    for _ in range(4):
        driven.state.changed(["b.x"], driven.now)
        driven.passes(0.1)
    assert [name for _, name, _ in driven.since(10.0)] == ["b.x"]


def test_a_name_that_no_source_has_is_refused() -> None:
    with pytest.raises(KeyError):
        house().state.changed(["z.x"], Instant(10.0, 0.0))
