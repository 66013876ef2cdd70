"""How late polls are, and which ticks led to none."""

import pytest
from polling import Driven, backend_plan, source_plan

from tidegate.core.measurements import PollStarted, TicksMissed
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.errors import ErrorCode

RULES = BreakerRules(failure_threshold=2, open_s=8.0, open_max_s=8.0)

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)


def driven(*names: str, connections: int = 9, latency_s: float = 0.25) -> Driven:
    sources = [source_plan(name, 8.0) for name in names]
    return Driven(backend_plan(*sources, rules=RULES, connections=connections), latency_s=latency_s)


def late(backend: Driven) -> list[float]:
    return [measured.late_s for measured in backend.measured(PollStarted)]


def test_a_poll_that_is_sent_at_its_tick_is_not_late() -> None:
    backend = driven("a.x")
    backend.passes(20.0)
    assert late(backend) == [0.0, 0.0, 0.0]


def test_who_waits_for_a_connection_is_late() -> None:
    backend = driven("a.x", "b.x", "c.x", connections=1)
    backend.passes(4.0)
    assert late(backend) == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("stopped_s", [8.5, 11.0])
def test_a_process_that_was_stopped_is_late_whether_it_catches_up_or_not(stopped_s: float) -> None:
    backend = driven("a.x")
    backend.passes(0.75)  # the first tick is at 0.5, the next at 8.5
    backend.sleeps(stopped_s)
    backend.step()
    assert late(backend) == [0.0, 0.75 + stopped_s - 8.5]


def test_a_tick_that_an_open_breaker_refuses_is_not_late() -> None:
    backend = driven("a.x", "b.x")
    backend.all_fail(DOWN)
    backend.passes(30.0)
    backend.answers.clear()
    asked = len(late(backend))
    backend.passes(24.0)
    assert len(late(backend)) > asked
    assert set(late(backend)) <= {0.0}


def test_a_tick_that_comes_during_a_call_is_missed_and_not_late() -> None:
    backend = driven("a.x", latency_s=9.0)
    backend.passes(40.0)
    assert set(late(backend)) == {0.0}
    assert sum(measured.count for measured in backend.measured(TicksMissed)) == 2


def test_a_tick_that_makes_no_call_since_one_was_just_made_is_not_late() -> None:
    backend = driven("a.x")
    backend.passes(7.0)
    backend.state.hint(["a.x"], backend.now)
    backend.passes(2.0)  # the tick at 8.5 makes no call
    assert [at for at, _ in backend.asked] == [0.5, 7.0]
    backend.state.hint(["a.x"], backend.now)
    backend.passes(1.0)
    assert len(backend.asked) == 3
    assert late(backend) == [0.0]
