"""A backend and a bus that takes, refuses, and changes its epoch, against a client that believes what is published.

Whatever happens, data is never dated by an answer that had other data. And once the bus has taken everything, the
client holds exactly what the backend answered last, with the verdict of now.
"""

import random
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from polling import backend_plan, source_plan

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.outcome import Answer, Fault, Outcome, Verdict
from tidegate.core.polling.source_values import Value, by_key
from tidegate.core.polling.turn import Turn
from tidegate.errors import ErrorCode

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
NULL = msgspec.Raw(b"null")


PLAN = backend_plan(
    source_plan("each", 4.0, stale_repeat=False, max_stale_s=9.0),
    source_plan("change", 4.0, on_change=True),
    source_plan("items", 4.0, key="id"),
    rules=BreakerRules(failure_threshold=2, open_s=1.0, open_max_s=4.0),
)


class BusMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 3))
    def begin(self, seed: int) -> None:
        self.now = Instant(1000.0, 1_700_000_000.0)
        self.state = BackendState(PLAN, now=self.now, draw=random.Random(seed).random, keeps=True)
        self.turns: list[Turn] = []
        self.answers: dict[str, dict[float, dict[str | None, msgspec.Raw]]] = {
            each.spec.type: {} for each in PLAN.sources
        }
        self.disk: dict[tuple[str, str], bytes] = {}
        self.in_flight: list[Decision] = []
        self.waiting: list[Decision] = []
        self.is_slow = True
        # the client
        self.held: dict[tuple[str, str | None], tuple[msgspec.Raw, float | None, bool]] = {}
        self.stale: dict[str | None, bool] = {}
        self.submit(self.state.begin({}, self.now))

    # the bus

    def submit(self, decision: Decision) -> None:
        for save in decision.saves:
            self.disk |= {(value.type, value.key): value.data for value in save.values}
            for name in save.gone:
                self.disk.pop(name, None)
        if decision.drafts or decision.refreshed:
            (self.waiting if self.in_flight else self.in_flight).append(decision)
        if not self.is_slow:
            self.bus_takes()

    @precondition(lambda self: self.in_flight)
    @rule()
    def bus_takes(self) -> None:
        """What is in flight is published; what waits is the next batch."""
        while self.in_flight:
            for decision in self.in_flight:
                self.hear(decision)
                self.state.taken(decision)
            self.in_flight, self.waiting = self.waiting, []
            if self.is_slow:
                return

    @precondition(lambda self: self.in_flight)
    @rule()
    def bus_refuses(self) -> None:
        for decision in [*self.in_flight, *self.waiting]:
            self.state.refused(decision, self.now)
        self.in_flight, self.waiting = [], []

    @precondition(lambda self: self.in_flight)
    @rule()
    def epoch_changes(self) -> None:
        """What is in flight may yet be published in the new epoch."""
        self.held, self.stale = {}, {}
        self.state.epoch_changed(self.now)

    def hear(self, decision: Decision) -> None:
        for draft in decision.drafts:
            if draft.type == "source.freshness":
                self.stale[draft.key] = msgspec.json.decode(draft.data)["stale"]
            elif draft.gone:
                self.held.pop((draft.type, draft.key), None)
            elif draft.type in self.answers:
                self.held[draft.type, draft.key] = draft.data, draft.as_of, bool(draft.stale)
        for event_type, as_of in decision.refreshed.items():
            for name, (data, _, stale) in self.held.items():
                if name[0] == event_type:
                    self.held[name] = data, as_of, stale

    # the backend

    @rule(seconds=st.sampled_from([0.25, 0.25, 0.25, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.now = Instant(self.now.mono + 0.25, self.now.wall + 0.25)
            self.submit(self.state.tick(self.now, is_wanted=lambda _: True))
            while (turn := self.state.next_turn(self.now)) is not None:
                self.submit(self.state.admit(turn, self.now))
                if turn.permit is not None:
                    self.turns.append(turn)
            for turn in [turn for turn in self.turns if turn.sent.mono <= self.now.mono - 2.0]:
                self.ends(turn, DOWN, None)

    @rule(number=st.integers(1, 2), keys=st.sets(st.sampled_from("abc")), well=st.sampled_from([True, True, False]))
    def a_call_ends(self, number: int, keys: set[str], well: bool) -> None:
        if not self.turns:
            self.state.hint(self.answers, self.now)
            self.time_passes(0.25)
        for turn in self.turns[:1]:
            data = msgspec.Raw(b"%d" % number)
            keyed = turn.group[0].plan.spec.keyed
            value: Value = dict.fromkeys(sorted(keys), data) if keyed else data
            self.ends(turn, Answer(data) if well else DOWN, value if well else None)

    def ends(self, turn: Turn, outcome: Outcome, value: Value | None) -> None:
        self.turns.remove(turn)
        (source,) = turn.group
        if value is not None:
            self.answers[source.type][turn.sent.wall] = {**by_key(value)}
        self.submit(self.state.ended(turn, [(outcome, value)], self.now))

    @rule(action=st.sampled_from(["force-open", "force-closed", "reset"]))
    def operator_commands(self, action: Any) -> None:
        self.submit(self.state.command("engine", action, self.now))

    # the client

    @invariant()
    def what_is_held_was_so_when_it_says(self) -> None:
        for (event_type, key), (data, as_of, _) in self.held.items():
            assert as_of is not None
            answer = self.answers[event_type][as_of]
            assert key in answer, "an item that was not there then"
            assert data in (NULL, answer[key])

    @invariant()
    def what_is_on_disk_was_answered_last(self) -> None:
        for event_type, answers in self.answers.items():
            on_disk = {key: data for (name, key), data in self.disk.items() if name == event_type and data != b"null"}
            newest = answers[max(answers)] if answers else {}
            assert on_disk == {key or "": bytes(data) for key, data in newest.items()}

    @rule()
    def all_is_told(self) -> None:
        """The bus is well, and nothing is asked for a while."""
        self.is_slow = False
        self.bus_takes()
        for turn in self.turns[:]:
            self.ends(turn, DOWN, None)
        for _ in range(4):
            self.now = Instant(self.now.mono + 0.25, self.now.wall + 0.25)
            self.submit(self.state.tick(self.now, is_wanted=lambda _: True))
        for view in self.state.sources(self.now):
            answers = self.answers[view.type]
            newest = answers[max(answers)] if answers else {}
            held = {key: each for (name, key), each in self.held.items() if name == view.type}
            assert held.keys() == newest.keys()
            assert all(as_of == view.as_of and stale == view.stale for _, as_of, stale in held.values())
            assert all(data in (NULL, newest[key]) for key, (data, _, _) in held.items())
            if view.type in self.stale or answers:
                assert self.stale[view.type] == view.stale
        self.is_slow = True


BusMachine.TestCase.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=150, stateful_step_count=40
)
TestBusModel = BusMachine.TestCase
