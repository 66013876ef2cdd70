"""What is read of a backend equals what an observer saw who looked all the time."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polling import Driven, backend_plan, source_plan

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerRules, State
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.errors import ErrorCode

STEP_S = 1 / 16

RULES = BreakerRules(failure_threshold=2, open_s=2.0, open_max_s=4.0)

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
WRONG = Fault(ErrorCode.RPC_APPLICATION_ERROR, "wrong", Verdict.ALIVE)
BUSY = Fault(ErrorCode.RPC_HTTP_STATUS, "busy", Verdict.FAILURE, retry_after_s=3.0)

PLAN = backend_plan(source_plan("a.x", 2.0), source_plan("b.x", 4.0, idle_interval_s=8.0), rules=RULES)


def read(backend: Driven) -> dict[tuple[str, ...], float]:
    found = {}
    for reading in backend.state.readings(lambda: backend.now):
        assert isinstance(reading.value, (int, float))
        found[(reading.name.removeprefix("tidegate_"), *reading.labels)] = reading.value
    return found


class Observer:
    """Looks at a backend in each step, and adds up what it sees."""

    def __init__(self, backend: Driven) -> None:
        self.backend = backend
        self.seen: Counter[str] = Counter()
        self.since: dict[str, float] = {}
        self.look()

    def look(self) -> None:
        now = self.backend.now
        self.stale = {view.type for view in self.backend.state.sources(now) if view.stale}
        self.is_open = self.backend.breaker.state is State.OPEN
        for name in self.stale - self.since.keys():
            self.since[name] = now.wall
        self.since = {name: at for name, at in self.since.items() if name in self.stale}

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            for name in [*self.stale, *(["open"] if self.is_open else [])]:
                self.seen[name] += 1
            self.backend.sleeps(STEP_S)
            self.look()  # first: a value is stale by its age before anybody does anything about it
            self.backend.step()
            self.look()

    def check(self) -> None:
        found = read(self.backend)
        assert found["breaker_open_seconds_total", "engine"] == self.seen["open"] * STEP_S
        assert found["breaker_state", "engine", "open"] == self.is_open
        for name in ("a.x", "b.x"):
            assert found["source_stale", name] == (name in self.stale)
            assert found["source_stale_seconds_total", name] == self.seen[name] * STEP_S
            fresh_until = found["source_fresh_until_timestamp_seconds", name]
            if name in self.stale:
                assert fresh_until == self.since[name]
            else:
                assert fresh_until > self.backend.now.wall


@given(
    st.lists(
        st.one_of(
            st.integers(1, 96),  # so many steps pass
            st.sampled_from([DOWN, WRONG, BUSY, None]),
            st.sampled_from(["force-open", "force-closed", "reset", "read", "long calls", "short calls", "idle"]),
        ),
        max_size=25,
    )
)
@settings(deadline=None)
def test_figures_equal_those_of_an_observer(actions: Sequence[int | Fault | str | None]) -> None:
    backend = Driven(PLAN, latency_s=STEP_S, draw=0.5)
    observer = Observer(backend)
    for action in actions:
        match action:
            case int():
                observer.passes(action * STEP_S)
            case Fault():
                backend.all_fail(action)
            case "read":
                observer.check()
            case "long calls" | "short calls":
                backend.latency_s = 96 * STEP_S if action == "long calls" else STEP_S
            case "idle":
                backend.wanted = not backend.wanted
            case "force-open" | "force-closed" | "reset":
                backend.take(backend.state.command("engine", action, backend.now))
                observer.look()
            case _:
                backend.answers.clear()
    observer.passes(1.0)
    observer.check()


def test_before_the_first_answer_it_is_stale_since_the_beginning_and_of_no_time() -> None:
    backend = Driven(PLAN)
    began = backend.now
    backend.sleeps(5.0)
    found = read(backend)
    assert found["source_stale", "a.x"] == 1
    assert found["source_stale_seconds_total", "a.x"] == 5.0
    assert found["source_fresh_until_timestamp_seconds", "a.x"] == began.wall
    assert ("source_as_of_timestamp_seconds", "a.x") not in found


def test_a_breaker_has_every_state_from_the_start() -> None:
    found = read(Driven(PLAN))
    states = {labels[2]: value for labels, value in found.items() if labels[0] == "breaker_state"}
    assert states == {"closed": 1, "half_open": 0, "open": 0}
    assert found["breaker_forced", "engine"] == 0
    assert found["breaker_open_seconds_total", "engine"] == 0
    assert found["late_results_total", "engine"] == 0


def test_a_forgotten_command_shows() -> None:
    backend = Driven(PLAN)
    backend.take(backend.state.command("engine", "force-closed", backend.now))
    assert read(backend)["breaker_forced", "engine"] == 1


def test_times_follow_the_wall_clock_when_that_is_set() -> None:
    backend = Driven(PLAN)
    backend.passes(3.0)
    before = read(backend)
    backend.now = Instant(backend.now.mono, backend.now.wall - 3600.0)
    after = read(backend)
    for name in ("source_as_of_timestamp_seconds", "source_fresh_until_timestamp_seconds"):
        assert after[name, "a.x"] == before[name, "a.x"] - 3600.0
    assert after["source_stale_seconds_total", "a.x"] == before["source_stale_seconds_total", "a.x"]


def test_a_source_that_is_asked_less_often_is_fresh_for_longer_at_once() -> None:
    backend = Driven(PLAN, latency_s=1.0)
    backend.passes(3.0)
    backend.latency_s, backend.wanted = 9.0, False
    backend.passes(5.0)  # a tick of b.x, whose call takes long: its value gets older than 8 s before that ends
    backend.sleeps(6.0)
    found = read(backend)
    assert found["source_stale", "b.x"] == 0
    assert found["source_stale_seconds_total", "b.x"] == pytest.approx(1.5)
