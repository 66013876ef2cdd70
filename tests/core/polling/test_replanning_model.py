"""Random plans, one after the other, while calls end and a bus takes and refuses: what a subscriber hears of it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from polling import backend_plan, raw, source_plan

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.call import Call
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.outcome import Answer, Fault, Outcome, Verdict
from tidegate.core.polling.source_values import Value
from tidegate.core.polling.turn import Turn
from tidegate.errors import ErrorCode

STEADY = source_plan("z.x", 8.0, breaker="engine/z.x")
"""A source of every plan, which is always answered well, at once."""

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
REFUSED = Fault(ErrorCode.RPC_HTTP_STATUS, "404", Verdict.ALIVE)
NAMES = ("a.x", "b.x", "c.x")
RULES = [
    BreakerRules(failure_threshold=2, open_s=4.0, open_max_s=4.0),
    BreakerRules(failure_threshold=5, open_s=1.0, open_max_s=2.0),
]


@st.composite
def sources(draw: st.DrawFn, name: str) -> SourcePlan:
    own = draw(st.booleans())
    plan = source_plan(
        name,
        draw(st.sampled_from([2.0, 8.0, 32.0])),
        breaker=f"engine/{name}" if own else "engine",
        key=draw(st.sampled_from([None, "id"])),
        on_change=draw(st.booleans()),
        stale_repeat=draw(st.booleans()),
        max_stale_s=draw(st.sampled_from([None, 6.0])),
    )
    return msgspec.structs.replace(plan, call=Call(draw(st.sampled_from(["one", "other"]))))


@st.composite
def plans(draw: st.DrawFn) -> BackendPlan:
    chosen = draw(st.sets(st.sampled_from(NAMES)))
    return backend_plan(
        STEADY,
        *[draw(sources(name)) for name in NAMES if name in chosen],
        rules=draw(st.sampled_from(RULES)),
        connections=draw(st.sampled_from([8, 16])),
        batch=False,
        retry_s=draw(st.sampled_from([0.0, 1.0])),
    )


class Subscriber:
    """Holds what it hears, by type and key. In the middle of an epoch change it may hear of an end alone."""

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.held: dict[tuple[str, str | None], Draft] = {}

    def hear(self, draft: Draft) -> None:
        if not draft.retain:
            return
        name = draft.type, draft.key
        if draft.gone:
            assert self.lenient or name in self.held, f"{name} is told gone, and is not there"
            self.held.pop(name, None)
        else:
            self.held[name] = draft

    def of(self, event_type: str) -> Mapping[str | None, Draft]:
        return {key: draft for (name, key), draft in self.held.items() if name == event_type}


class Reloads(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = Instant(64.0, 1_795_000_000.0)
        self.subscriber = Subscriber()
        self.on_the_way: list[Decision] = []
        self.out: list[Turn] = []
        self.questions: dict[Turn, list[SourcePlan]] = {}
        self.steady_asked: list[float] = []
        self.answers = 0
        self.sessions = 0
        self.was_full = False  # whether the steady one may have waited for a connection: calls may last forever here

    @initialize(plan=plans())
    def begin(self, plan: BackendPlan) -> None:
        self.plan = plan
        self.state = BackendState(plan, now=self.now, draw=lambda: 0.5, keeps=True)
        self.submit(self.state.begin({}, self.now))

    @property
    def planned(self) -> dict[str, SourcePlan]:
        return {each.spec.type: each for each in self.plan.sources}

    def submit(self, decision: Decision) -> None:
        for draft in decision.drafts:
            planned = self.planned.get(draft.type)
            if planned is not None and draft.stale is False and not draft.gone:
                assert self.question_of(draft) == planned.call.method, "an answer to another question is called fresh"
        if decision.drafts or decision.refreshed:
            self.on_the_way.append(decision)

    @staticmethod
    def question_of(draft: Draft) -> str:
        return str(msgspec.json.decode(draft.data)["of"])

    @rule(plan=plans())
    def replan(self, plan: BackendPlan) -> None:
        before, self.plan = self.planned, plan
        held = {view.type: view for view in self.state.sources(self.now)}
        decision = self.state.replanning.replan(plan, self.now)
        self.submit(decision)
        for view in self.state.sources(self.now):
            if view.type in before and view.as_of is not None:
                assert view.as_of == held[view.type].as_of, "the value stays"
                if before[view.type].call != self.planned[view.type].call:
                    assert view.stale
        assert {view.name for view in self.state.breakers(self.now)} == {each.breaker for each in plan.sources}

    @rule(plan=plans(), other=st.booleans())
    def another_session(self, plan: BackendPlan, other: bool) -> None:
        self.plan = plan
        self.sessions += 1
        under_way = list(self.out)
        self.submit(self.state.replanning.replan(plan, self.now, can_knock=False, is_other_service=other))
        assert all(turn.is_over for turn in under_way)
        self.out.clear()
        assert all(view.state == "closed" for view in self.state.breakers(self.now) if not view.forced)
        if other:
            assert all(view.stale for view in self.state.sources(self.now))

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now.mono + seconds
        while self.now.mono < until:
            self.now = Instant(self.now.mono + 0.25, self.now.wall + 0.25)
            self.step()

    def step(self) -> None:
        self.submit(self.state.tick(self.now, is_wanted=lambda _: True))
        while (turn := self.state.next_turn(self.now)) is not None:
            self.submit(self.state.admit(turn, self.now))
            if turn.permit is None:
                continue
            self.questions[turn] = [source.plan for source in turn.group]
            if turn.group[0].type == "z.x":
                self.steady_asked.append(self.now.mono)
                self.end(turn, Answer(raw(0)))
            else:
                self.out.append(turn)
        self.was_full = self.was_full or len(self.out) >= self.plan.connections

    def end(self, turn: Turn, outcome: Outcome) -> None:
        self.answers += 1
        ends: list[tuple[Outcome, Value | None]] = []
        for plan in self.questions.pop(turn):
            data = raw({"of": plan.call.method, "n": self.answers})
            value: Any = {f"k{self.answers % 2}": data, "k": data} if plan.spec.keyed else data
            ends.append((outcome, value if isinstance(outcome, Answer) else None))
        self.submit(self.state.ended(turn, ends, self.now))

    @precondition(lambda self: self.out)
    @rule(outcome=st.sampled_from([Answer(raw(0)), Answer(raw(0)), DOWN, REFUSED]))
    def call_ends(self, outcome: Outcome) -> None:
        self.end(self.out.pop(0), outcome)

    @rule(action=st.sampled_from(["force-open", "reset"]))
    def command(self, action: Any) -> None:
        if "engine" in self.state.serves:
            self.submit(self.state.command("engine", action, self.now))

    @precondition(lambda self: self.on_the_way)
    @rule()
    def bus_takes(self) -> None:
        decision = self.on_the_way.pop(0)
        for draft in decision.drafts:
            self.subscriber.hear(draft)
        self.state.taken(decision)

    @precondition(lambda self: self.on_the_way)
    @rule()
    def bus_refuses(self) -> None:
        refused, self.on_the_way = self.on_the_way, []
        for decision in refused:
            self.state.refused(decision, self.now)

    @rule()
    def another_epoch(self) -> None:
        """Everybody who connects from now on has heard nothing, except what is on its way."""
        self.subscriber = Subscriber(lenient=True)
        self.state.epoch_changed(self.now)

    @rule()
    def all_is_told(self) -> None:
        for _ in range(4):
            self.now = Instant(self.now.mono + 0.25, self.now.wall + 0.25)
            self.step()
            while self.on_the_way:
                self.bus_takes()
        held, self.subscriber.lenient = self.subscriber, False
        assert {name for name, _ in held.held} <= {*self.planned, "source.freshness", "circuit_breaker.state"}
        assert held.of("circuit_breaker.state").keys() == {each.breaker for each in self.plan.sources}
        assert held.of("source.freshness").keys() <= self.planned.keys()
        assert self.state.replanning.is_told
        for view in self.state.sources(self.now):
            told = held.of(view.type)
            assert {draft.stale for draft in told.values()} <= {view.stale}
            assert bool(told) == (view.as_of is not None)
        for breaker in self.state.breakers(self.now):
            assert f'"state":"{breaker.state}"'.encode() in bytes(held.of("circuit_breaker.state")[breaker.name].data)

    @invariant()
    def the_steady_one_keeps_its_ticks(self) -> None:
        if not self.sessions and not self.was_full:
            assert all((at - 64.5) % 8.0 == 0.0 for at in self.steady_asked)


TestReloads = Reloads.TestCase
TestReloads.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
