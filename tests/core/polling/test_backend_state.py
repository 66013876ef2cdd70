"""All that is known of one backend, told of events one by one: what it says, what it carries, what it resumes."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import BackendPlan, Call, SourcePlan
from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.carried import CarriedBackend
from tidegate.core.polling.decision import Decision, SavedValue
from tidegate.core.polling.lineup import Turn
from tidegate.core.polling.outcome import Answer, ClassifyPolicy, Fault, Outcome, Verdict
from tidegate.core.polling.source_values import SourceSpec, Value
from tidegate.errors import ErrorCode

BEGINNING = Instant(1024.0, 1_795_000_064.0)
STEP_S = 1 / 64
"""All times are multiples of this, so that what is carried as wall time comes back exactly."""

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
REFUSED_ACCOUNT = Fault(ErrorCode.RPC_AUTH, "who are you", Verdict.ALIVE)
BUSY = Fault(ErrorCode.RPC_HTTP_STATUS, "busy", Verdict.FAILURE, retry_after_s=3.0)
RULES = BreakerRules(
    failure_threshold=2, open_s=1.0, open_max_s=4.0, half_open_successes=2, heal_s=8.0, probe_deadline_s=3.0
)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def source(name: str, interval_s: float, *, breaker: str = "engine", **fields: Any) -> SourcePlan:
    key, idle_interval_s = fields.pop("key", None), fields.pop("idle_interval_s", None)
    spec = SourceSpec(
        type=name, backend="engine", interval_s=interval_s, timeout_s=2.0, keyed=key is not None, **fields
    )
    return SourcePlan(spec=spec, call=Call(name), breaker=breaker, key=key, idle_interval_s=idle_interval_s)


SOURCES = (
    source("a.x", 1.0, max_stale_s=8.0),
    source("b.x", 2.0, on_change=True, stale_repeat=False),
    source("c.x", 4.0, key="id", idle_interval_s=16.0),
    source("d.x", 1.0, breaker="engine/d.x"),
)


def plan(*sources: SourcePlan, batch: bool = False, connections: int = 16, rules: BreakerRules = RULES) -> BackendPlan:
    return BackendPlan(
        name="engine",
        timeout_s=2.0,
        batch=batch,
        connections=connections,
        breaker=rules,
        policy=ClassifyPolicy(),
        event_bytes=1000,
        rpc_error_interval_s=5.0,
        sources=sources,
    )


class Draws:
    """Chance that can be repeated, in numbers that are exact."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def __call__(self) -> float:
        return self._rng.randrange(16) / 16


class Life:
    """A backend that is driven by hand. `said` is all that it decided to tell anybody, in order."""

    def __init__(self, plan: BackendPlan, *, seed: int = 0) -> None:
        self.plan = plan
        self.now = BEGINNING
        self.draw = Draws(seed)
        self.state = BackendState(plan, now=self.now, draw=self.draw, keeps=True)
        self.turns: list[Turn] = []
        self.said: list[Decision] = []
        self.wanted = True
        self.values = itertools.count(1)
        self.waiting: list[Decision] | None = None  # what the bus has not answered; None: it answers at once

    def take(self, decision: Decision) -> Decision:
        self.said.append(decision)
        if self.waiting is None:
            self.state.taken(decision)
        else:
            self.waiting.append(decision)
        return decision

    def is_wanted(self, event_type: str) -> bool:
        return self.wanted

    def passes(self, seconds: float) -> None:
        """Time passes, tick by tick; who gets a turn is asked, until `ends` says what that came to."""
        until = self.now.mono + seconds
        while True:
            wake_at = self.state.wake_at()
            at = until if wake_at is None else min(until, max(self.now.mono, wake_at))
            self.now = Instant(at, self.now.wall + at - self.now.mono)
            if wake_at is not None and wake_at <= at:
                self.take(self.state.tick(self.now, is_wanted=self.is_wanted))
                self.begin_turns()
            if self.now.mono >= until and (self.state.wake_at() or until + 1) > until:
                return

    def begin_turns(self) -> None:
        while (turn := self.state.next_turn(self.now)) is not None:
            self.take(self.state.admit(turn, self.now))
            if turn.permit is not None:
                self.turns.append(turn)

    def ends(self, kind: str) -> None:
        """The oldest call under way ends."""
        if self.turns:
            turn = self.turns.pop(0)
            outcomes = [self.outcome(kind, source.plan) for source in turn.group]
            self.take(self.state.ended(turn, outcomes, self.now))
            self.begin_turns()

    def outcome(self, kind: str, plan: SourcePlan) -> tuple[Outcome, Value | None]:
        match kind:
            case "down":
                return DOWN, None
            case "account":
                return REFUSED_ACCOUNT, None
            case "busy":
                return BUSY, None
            case "slow":
                return Answer(raw(0), slow=True), self.value(plan, 0)
            case "same":
                return Answer(raw(0)), self.value(plan, 0)
            case _:
                return Answer(raw(1)), self.value(plan, next(self.values))

    def value(self, plan: SourcePlan, number: int) -> Value:
        return raw(number) if plan.key is None else {"k": raw(number), f"k{number % 3}": raw(0)}

    def cut(self) -> None:
        """Nothing is under way any more: what had its turn is due again."""
        for turn in self.turns:
            self.state.abandoned(turn, self.now)
        self.turns.clear()

    def resume(self) -> None:
        """Go on in another place, which knows what was carried as JSON, and has clocks of its own."""
        carried = msgspec.json.decode(msgspec.json.encode(self.state.carried(self.now)), type=CarriedBackend)
        self.turns.clear()
        self.now = Instant(self.now.mono - 512.0, self.now.wall)
        self.state = BackendState.from_carried(self.plan, carried, now=self.now, draw=self.draw, keeps=True)

    def live(self, step: tuple[str, Any]) -> None:
        match step:
            case "passes", steps:
                self.passes(steps * STEP_S)
            case "ends", kind:
                self.ends(kind)
            case "command", (name, action):
                self.take(self.state.command(name, action, self.now))
            case "hint", names:
                self.state.hint(names, self.now)
            case "wanted", wanted:
                self.wanted = wanted
                self.state.interest_changed(self.is_wanted, self.now)

    def heard(self, since: int = 0) -> list[object]:
        """What was said from number `since` on, so that two lives can be compared."""
        return [
            (decision.drafts, decision.refreshed, decision.saves, decision.notes, decision.measurements)
            for decision in self.said[since:]
            if decision != Decision()
        ]

    def views(self) -> tuple[object, ...]:
        """What is shown; but for times by a clock of one's own."""
        breakers = [
            msgspec.structs.replace(view, history=(), held_until=None) for view in self.state.breakers(self.now)
        ]
        history = [
            (move.at.wall, move.from_state, move.to, move.reason)
            for view in self.state.breakers(self.now)
            for move in view.history
        ]
        return breakers, history, self.state.sources(self.now), self.state.attempted


STEPS = st.one_of(
    st.tuples(st.just("passes"), st.sampled_from([1, 7, 40, 64, 200])),
    st.tuples(st.just("ends"), st.sampled_from(["well", "same", "down", "down", "account", "busy", "slow"])),
    st.tuples(
        st.just("command"),
        st.tuples(st.sampled_from(["engine", "engine/d.x"]), st.sampled_from(["force-open", "force-closed", "reset"])),
    ),
    st.tuples(st.just("hint"), st.sets(st.sampled_from([each.spec.type for each in SOURCES])).map(sorted)),
    st.tuples(st.just("wanted"), st.booleans()),
)


def begun(plan: BackendPlan, seed: int, steps: Sequence[tuple[str, Any]]) -> Life:
    life = Life(plan, seed=seed)
    life.take(life.state.begin({"a.x": {"": SavedValue("a.x", "", b"7", BEGINNING.wall - 2.0)}}, life.now))
    for step in steps:
        life.live(step)
    return life


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(
    before=st.lists(STEPS, max_size=30),
    after=st.lists(STEPS, max_size=20),
    batch=st.booleans(),
    connections=st.sampled_from([1, 2, 16]),
    failure_rate=st.sampled_from([None, 0.5]),
    seed=st.integers(0, 3),
)
def test_what_is_resumed_says_the_same_as_what_was_never_carried(
    before: list[tuple[str, Any]],
    after: list[tuple[str, Any]],
    batch: bool,
    connections: int,
    failure_rate: float | None,
    seed: int,
) -> None:
    rules = msgspec.structs.replace(RULES, failure_rate=failure_rate, rate_minimum_calls=4)
    ours = plan(*SOURCES, batch=batch, connections=connections, rules=rules)
    stayed, moved = begun(ours, seed, before), begun(ours, seed, before)
    assert stayed.heard() == moved.heard()
    in_turn = in_their_turn(stayed.state)
    stayed.cut()
    stayed.state.hint(in_turn, stayed.now)
    # Whoever waited in the line for one of the connections has lost its place wherever this is resumed.
    for turn in iter(lambda: stayed.state.next_turn(stayed.now), None):
        stayed.state.abandoned(turn, stayed.now)
    moved.resume()
    moved.draw._rng.setstate(stayed.draw._rng.getstate())
    assert moved.views() == stayed.views()
    since = len(stayed.said)
    del moved.said[since:]
    for step in after:
        stayed.live(step)
        moved.live(step)
        assert moved.views() == stayed.views()
    assert moved.heard(since) == stayed.heard(since)


def in_their_turn(state: BackendState) -> list[str]:
    return [source.type for source in state._sources.values() if source.in_flight]


# what the bus takes and refuses


def published(decisions: Sequence[Decision]) -> Iterator[tuple[str, str | None, bool | None]]:
    for decision in decisions:
        for draft in decision.drafts:
            yield draft.type, draft.key, draft.stale


@pytest.fixture
def life() -> Life:
    """Two sources, each with an answer; every hour is long, so that nothing happens by itself."""
    life = Life(plan(source("a.x", 3600.0), source("b.x", 3600.0, on_change=True)))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.ends("same")
    life.ends("same")
    life.said.clear()
    life.waiting = []
    return life


def refuse_all(life: Life) -> None:
    assert life.waiting
    for decision in life.waiting:
        life.state.refused(decision, life.now)
    life.waiting.clear()


def test_what_is_under_way_is_not_said_twice(life: Life) -> None:
    life.take(life.state.command("engine", "force-open", life.now))
    life.take(life.state.command("engine", "force-open", life.now))
    told: list[tuple[str, str | None, bool | None]] = [("circuit_breaker.state", "engine", None)]
    for name in ("a.x", "b.x"):
        told += [(name, None, True), ("source.freshness", name, None)]
    assert list(published(life.said)) == told


def test_what_is_refused_is_said_with_the_next_thing_that_is_said_moves_first(life: Life) -> None:
    life.take(life.state.command("engine", "force-open", life.now))
    life.take(life.state.command("engine", "force-closed", life.now))
    refuse_all(life)
    life.said.clear()
    decision = life.take(life.state.command("engine", "reset", life.now))
    assert [(move.from_state, move.state, move.reason) for move in decision.moves] == [
        ("closed", "open", "force_open"),
        ("open", "closed", "force_closed"),
        ("closed", "closed", "reset"),
    ]
    assert list(published(life.said)) == [("circuit_breaker.state", "engine", None)] * 3, "the data is as it was told"


def test_what_is_refused_is_said_after_half_a_second_and_only_once_if_it_is_taken(life: Life) -> None:
    life.take(life.state.command("engine", "force-open", life.now))
    refuse_all(life)
    life.said.clear()
    life.waiting = None
    life.passes(0.49)
    assert list(published(life.said)) == []
    life.passes(0.02)
    assert ("b.x", None, True) in list(published(life.said))
    said = len(life.said)
    life.passes(10.0)
    assert list(published(life.said[said:])) == []


def test_an_answer_that_was_refused_is_said_though_it_did_not_change_since(life: Life) -> None:
    life.state.hint(["b.x"], life.now)
    life.passes(0.1)
    life.ends("well")
    life.state.hint(["b.x"], life.now)
    life.passes(0.1)
    life.ends("well")
    assert len([each for each in published(life.said) if each[0] == "b.x"]) == 2
    refuse_all(life)
    life.said.clear()
    life.passes(1.0)
    (draft,) = [draft for decision in life.said for draft in decision.drafts]
    assert (draft.type, draft.data, draft.stale) == ("b.x", raw(2), False), "what is true now, once"


def test_an_item_that_went_while_the_bus_refused_is_said_to_be_gone() -> None:
    life = Life(plan(source("a.x", 3600.0, key="id")))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    (turn,) = life.turns
    life.take(life.state.ended(turn, [(Answer(raw(0)), {"x": raw(1), "y": raw(2)})], life.now))
    life.said.clear()
    life.waiting = []
    life.state.hint(["a.x"], life.now)
    life.passes(0.1)
    life.take(life.state.ended(life.turns[-1], [(Answer(raw(0)), {"y": raw(2), "z": raw(3)})], life.now))
    refuse_all(life)
    life.said.clear()
    life.passes(1.0)
    said = [(draft.key, draft.gone) for decision in life.said for draft in decision.drafts]
    assert said == [("z", False), ("x", True)]
    assert [decision.refreshed.keys() for decision in life.said if decision.refreshed] == [{"a.x"}]


def test_a_reported_error_that_was_refused_counts_as_suppressed_and_the_next_is_reported(life: Life) -> None:
    for _ in range(2):
        life.state.hint(["a.x"], life.now)
        life.passes(0.1)
        life.ends("account")
        life.passes(8.0)
        if life.waiting:
            refuse_all(life)
    errors = [draft for decision in life.said for draft in decision.drafts if draft.type == "rpc_error"]
    assert [msgspec.json.decode(draft.data)["suppressed"] for draft in errors] == [0, 1]


def test_while_only_news_is_wanted_nothing_is_said_again() -> None:
    life = Life(plan(source("a.x", 1.0)))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.ends("well")
    life.take(life.state.command("engine", "force-open", life.now))
    life.passes(1.0)
    life.said.clear()
    life.now = Instant(life.now.mono + 1.0, life.now.wall + 1.0)
    life.take(life.state.tick(life.now, is_wanted=life.is_wanted, only_news=True))
    assert list(published(life.said)) == []
    life.now = Instant(life.now.mono + 1.0, life.now.wall + 1.0)
    life.take(life.state.tick(life.now, is_wanted=life.is_wanted))
    assert list(published(life.said)) == [("a.x", None, True)]


def test_what_was_under_way_on_the_bus_is_carried_as_not_said(life: Life) -> None:
    life.take(life.state.command("engine", "force-open", life.now))
    life.resume()
    life.said.clear()
    life.waiting = None
    life.passes(0.1)
    assert list(published(life.said))[:2] == [("circuit_breaker.state", "engine", None), ("a.x", None, True)]


def test_what_was_being_asked_is_due_at_once_where_it_is_resumed(life: Life) -> None:
    life.state.hint(["a.x"], life.now)
    life.passes(0.1)
    assert [source.type for turn in life.turns for source in turn.group] == ["a.x"]
    life.resume()
    life.passes(0.1)
    assert [source.type for turn in life.turns for source in turn.group] == ["a.x"]


# another epoch


ANEW: list[tuple[str, str | None, bool | None]] = [
    ("circuit_breaker.state", "engine", None),
    ("a.x", None, False),
    ("source.freshness", "a.x", None),
    ("b.x", None, False),
    ("source.freshness", "b.x", None),
]


def test_in_another_epoch_everything_is_told_again_from_nothing(life: Life) -> None:
    life.waiting = None
    life.state.epoch_changed(life.now)
    assert life.state.wake_at() == life.now.mono, "nobody waits for a value until it is polled again"
    life.passes(0.0)
    (decision,) = (each for each in life.said if each.drafts)
    assert list(published([decision])) == ANEW
    assert [(move.from_state, move.state, move.reason) for move in decision.moves] == [(None, "closed", "start")]
    said = len(life.said)
    life.passes(10.0)
    assert list(published(life.said[said:])) == [], "once"


def test_a_move_in_another_epoch_follows_the_state_that_it_began_with(life: Life) -> None:
    life.take(life.state.command("engine", "force-open", life.now))
    life.state.epoch_changed(life.now)
    decision = life.take(life.state.command("engine", "reset", life.now))
    assert [(move.from_state, move.state) for move in decision.moves] == [(None, "open"), ("open", "closed")]
    assert {"a.x", "b.x"} <= {event_type for event_type, _, _ in published([decision])}


@pytest.mark.parametrize("becomes_of_it", ["taken", "refused"])
def test_what_was_under_way_when_the_epoch_changed_tells_nobody_anything(life: Life, becomes_of_it: str) -> None:
    before = life.take(life.state.command("engine", "force-open", life.now))
    life.state.epoch_changed(life.now)
    life.passes(0.0)
    if becomes_of_it == "taken":
        life.state.taken(before)
    else:
        life.state.refused(before, life.now)
    assert life.waiting is not None
    for decision in life.waiting[1:]:
        life.state.refused(decision, life.now)
    life.said.clear()
    life.waiting = None
    life.passes(1.0)
    assert list(published(life.said)) == [(name, key, stale if stale is None else True) for name, key, stale in ANEW]
    assert [move.from_state for decision in life.said for move in decision.moves] == [None]


def test_an_epoch_that_changes_before_the_beginning_is_begun_once() -> None:
    life = Life(plan(source("a.x", 3600.0)))
    life.state.epoch_changed(life.now)
    decision = life.take(life.state.begin({}, life.now))
    assert [move.from_state for move in decision.moves] == [None]


def keyed_life() -> tuple[Life, Any]:
    """One source of items, "1" at first; and what answers it with other items."""
    life = Life(plan(source("a.x", 3600.0, key="id")))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)

    def answer(*keys: str) -> Decision:
        if not life.turns:
            life.state.hint(["a.x"], life.now)
            life.passes(0.1)
        items = {key: raw(0) for key in keys}
        return life.take(life.state.ended(life.turns.pop(), [(Answer(raw(0)), items)], life.now))

    answer("1")
    life.said.clear()
    life.waiting = []
    return life, answer


def items_said(decision: Decision) -> list[tuple[str | None, bool]]:
    return [(draft.key, draft.gone) for draft in decision.drafts if draft.type == "a.x"]


@pytest.mark.parametrize("retold", [False, True])
def test_an_item_that_came_late_into_another_epoch_is_removed_though_its_removal_was_refused(retold: bool) -> None:
    life, answer = keyed_life()
    comes, goes = answer("1", "K"), answer("1")
    life.state.epoch_changed(life.now)
    if retold:
        life.passes(0.0)
    life.state.taken(comes)
    life.state.refused(goes, life.now)
    for decision in (life.waiting or [])[2:]:
        life.state.refused(decision, life.now)
    life.said.clear()
    life.waiting = None
    life.passes(1.0)
    assert [said for each in life.said if (said := items_said(each))] == [[("1", False), ("K", True)]]


def test_a_newer_as_of_that_was_refused_is_told_again() -> None:
    life, answer = keyed_life()
    life.take(life.state.command("engine", "reset", life.now))  # says nothing of the source
    as_of = answer("1").refreshed["a.x"]
    refuse_all(life)
    life.said.clear()
    life.waiting = None
    life.passes(1.0)
    assert [decision.refreshed for decision in life.said if decision.refreshed] == [{"a.x": as_of}]


def test_what_is_on_disk_follows_the_answers_though_the_bus_refused_them() -> None:
    life, answer = keyed_life()
    (save,) = answer("1", "K").saves
    assert [value.key for value in save.values] == ["K", ""]
    refuse_all(life)
    decision = answer("1")
    assert items_said(decision) == []
    (save,) = decision.saves
    assert (save.gone, [value.key for value in save.values]) == ([("a.x", "K")], [""])
