"""All that is known of one backend, told of events one by one: what it says, what it carries, what it resumes."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polling import backend_plan, moves_of, raw, source_plan

from tidegate.core.built_in import SourceFreshness
from tidegate.core.events import Draft
from tidegate.core.instant import LONG_AGO, Instant, rfc3339
from tidegate.core.measurements import BreakerMoved, PollEnded
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.breaker_values import BreakerRules, State
from tidegate.core.polling.carried import CarriedBackend
from tidegate.core.polling.decision import Decision, Note, Save, SavedValue
from tidegate.core.polling.moves import Command
from tidegate.core.polling.outcome import Answer, Fault, Outcome, Verdict
from tidegate.core.polling.poking import Poke
from tidegate.core.polling.source_values import Value
from tidegate.core.polling.turn import Turn
from tidegate.errors import ErrorCode

BEGINNING = Instant(1024.0, 1_795_000_064.0)
STEP_S = 1 / 64
"""All times are multiples of this, so that what is carried as wall time comes back exactly."""

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
REFUSED_ACCOUNT = Fault(ErrorCode.RPC_AUTH, "who are you", Verdict.ALIVE)
BUSY = Fault(ErrorCode.RPC_HTTP_STATUS, "busy", Verdict.FAILURE, retry_after_s=3.0)
RULES = BreakerRules(failure_threshold=2, open_s=1.0, open_max_s=4.0, half_open_successes=2, heal_s=8.0)


SOURCES = (
    source_plan("a.x", 1.0, max_stale_s=8.0),
    source_plan("b.x", 2.0, on_change=True, stale_repeat=False),
    source_plan("c.x", 4.0, key="id", idle_interval_s=16.0),
    source_plan("d.x", 1.0, breaker="engine/d.x"),
)


def plan(
    *sources: SourcePlan,
    batch: bool = False,
    connections: int = 16,
    rules: BreakerRules = RULES,
    retry_s: float = 0.0,
) -> BackendPlan:
    return backend_plan(*sources, rules=rules, batch=batch, connections=connections, retry_s=retry_s)


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
        self.secret = b"old"
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
        for _ in range(10_000):
            wake_at = self.state.wake_at()
            at = until if wake_at is None else min(until, max(self.now.mono, wake_at))
            self.now = Instant(at, self.now.wall + at - self.now.mono)
            if wake_at is not None and wake_at <= at:
                self.take(self.state.tick(self.now, is_wanted=self.is_wanted))
                self.begin_turns()
                if self.state.begin_reading(self.now):
                    self.state.secret_read(self.secret, self.now)
            if self.now.mono >= until and (self.state.wake_at() or until + 1) > until:
                return
        pytest.fail("it wakes again and again")

    def begin_turns(self) -> None:
        while (turn := self.state.next_turn(self.now)) is not None:
            self.take(self.state.admit(turn, self.now, secret=self.secret))
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
        return raw(number) if plan.shape.items is None else {"k": raw(number), f"k{number % 3}": raw(0)}

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
        self.state = BackendState(self.plan, carried=carried, now=self.now, draw=self.draw, keeps=True)

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
            case "secret", secret:
                self.secret = secret

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
    st.tuples(st.just("secret"), st.sampled_from([b"old", b"new"])),
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
    retry_s=st.sampled_from([0.0, 0.25, 1.0]),
    seed=st.integers(0, 3),
)
def test_what_is_resumed_says_the_same_as_what_was_never_carried(
    before: list[tuple[str, Any]],
    after: list[tuple[str, Any]],
    batch: bool,
    connections: int,
    failure_rate: float | None,
    retry_s: float,
    seed: int,
) -> None:
    rules = msgspec.structs.replace(RULES, failure_rate=failure_rate, rate_minimum_calls=4)
    ours = plan(*SOURCES, batch=batch, connections=connections, rules=rules, retry_s=retry_s)
    stayed, moved = begun(ours, seed, before), begun(ours, seed, before)
    assert stayed.heard() == moved.heard()
    forget_what_is_not_carried(stayed)
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


def forget_what_is_not_carried(life: Life) -> None:
    """Whoever was being asked, or waited for it, is asked one after the other; limits and secrets are forgotten."""
    state, lineup = life.state, life.state._lineup
    due = [state._sources[name] for name in lineup.due]
    life.cut()
    for turn in iter(lambda: state.next_turn(life.now), None):
        state.abandoned(turn, life.now)
    lineup.stop(state._sources.values())
    lineup._asked_for.clear()
    fresh = BackendState(life.plan, now=life.now, draw=lambda: 0.0, keeps=True)
    lineup._repetitions, lineup._catching_up = fresh._lineup._repetitions, fresh._lineup._catching_up
    lineup._catch_up(due, life.now)
    for source in state._sources.values():
        source.calls.refused_secret = None
    accounts = state._accounts
    accounts._trial, accounts._poked_at, accounts._read_at = None, LONG_AGO, LONG_AGO
    for breaker in state._breakers.values():
        breaker._poke, breaker.was_held = Poke(), False


# what the bus takes and refuses


def published(decisions: Sequence[Decision]) -> Iterator[tuple[str, str | None, bool | None]]:
    for decision in decisions:
        for draft in decision.drafts:
            yield draft.type, draft.key, draft.stale


@pytest.fixture
def life() -> Life:
    """Two sources, each with an answer; every hour is long, so that nothing happens by itself."""
    life = Life(plan(source_plan("a.x", 3600.0), source_plan("b.x", 3600.0, on_change=True)))
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
    assert [(move.from_state, move.state, move.reason) for move in moves_of(decision)] == [
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


def test_every_answer_of_a_source_that_says_each_is_said_though_the_data_is_the_same(life: Life) -> None:
    for name in ("a.x", "b.x"):  # b.x says only changes
        life.state.hint([name], life.now)
        life.passes(0.1)
        life.ends("same")
    refuse_all(life)
    life.said.clear()
    life.passes(1.0)
    assert list(published(life.said)) == [("a.x", None, False)]


def test_an_item_that_went_while_the_bus_refused_is_said_to_be_gone() -> None:
    life = Life(plan(source_plan("a.x", 3600.0, key="id")))
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
    life = Life(plan(source_plan("a.x", 1.0)))
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


def test_what_was_carried_stays_as_it_was_when_it_is_resumed(life: Life) -> None:
    life.take(life.state.command("engine", "force-open", life.now))
    carried = life.state.carried(life.now)
    assert [move.state for move in carried.untold] == [State.OPEN]
    resumed = BackendState(life.plan, carried=carried, now=life.now, draw=life.draw, keeps=True)
    assert resumed.tick(life.now, is_wanted=life.is_wanted).moves == carried.untold
    assert [move.state for move in carried.untold] == [State.OPEN]


def test_a_backend_in_trouble_is_carried_whole() -> None:
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0), source_plan("c.x", 64.0, key="id")))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    for _ in range(3):
        life.ends("same")
    life.waiting = []  # what the bus has not taken yet is carried as not told: the items, too
    for kind in ("well", "down", "busy"):
        life.state.hint(["c.x" if kind == "well" else "a.x"], life.now)
        life.passes(0.5)
        life.ends(kind)
    (before,) = life.state.breakers(life.now)
    carried = life.state.carried(life.now)
    assert (before.state, before.cause) == (State.OPEN, ErrorCode.RPC_HTTP_STATUS)
    assert None not in (before.retry_at, before.held_until)
    told, reports = carried.sources["c.x"].freshness.told, carried.sources["a.x"].reports
    assert told is not None
    same = carried.sources["b.x"].freshness.told
    assert same is not None
    assert same.items is None, "what is held and told is carried once"
    assert told.items == {"k": raw(0), "k0": raw(0)}
    assert reports.failures == 2
    life.resume()
    (after,) = life.state.breakers(life.now)
    assert (after.name, after.state, after.cause, after.retry_at) == (
        "engine",
        before.state,
        before.cause,
        before.retry_at,
    )
    assert after.held_until is not None
    assert after.held_until.mono == life.now.mono + 3.0
    again = life.state.carried(life.now)
    assert again.breakers["engine"] == msgspec.structs.replace(
        carried.breakers["engine"], generation=again.breakers["engine"].generation
    )
    assert again.sources["c.x"].freshness == carried.sources["c.x"].freshness
    life.said.clear()
    life.passes(0.0)
    said = [(draft.key, draft.data) for each in life.said for draft in each.drafts if draft.type == "c.x"]
    assert dict(said) == {"k": raw(1), "k1": raw(0), "k0": raw(None)}


def test_a_half_open_breaker_has_another_probe_at_once_where_it_is_resumed() -> None:
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0)))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.ends("down")
    life.ends("down")
    life.passes(1.0)
    assert life.state.breaker("engine", life.now).state is State.HALF_OPEN
    life.resume()
    for _ in range(2):
        life.passes(0.0)
        assert len(life.turns) == 1
        life.ends("same")
    assert life.state.breaker("engine", life.now).state is State.CLOSED


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
    assert [(move.from_state, move.state, move.reason) for move in moves_of(decision)] == [(None, "closed", "start")]
    said = len(life.said)
    life.passes(10.0)
    assert list(published(life.said[said:])) == [], "once"


def test_a_move_in_another_epoch_follows_the_state_that_it_began_with(life: Life) -> None:
    life.take(life.state.command("engine", "force-open", life.now))
    life.state.epoch_changed(life.now)
    decision = life.take(life.state.command("engine", "reset", life.now))
    assert [(move.from_state, move.state) for move in moves_of(decision)] == [(None, "open"), ("open", "closed")]
    assert {"a.x", "b.x"} <= {event_type for event_type, _, _ in published([decision])}


@pytest.mark.parametrize("becomes_of_it", ["taken", "refused"])
@pytest.mark.parametrize("epochs_before", [0, 1])
def test_what_was_under_way_when_the_epoch_changed_tells_nobody_anything(
    life: Life, becomes_of_it: str, epochs_before: int
) -> None:
    for _ in range(epochs_before):
        life.state.epoch_changed(life.now)
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
    assert [move.from_state for decision in life.said for move in moves_of(decision)] == [None]


def test_an_epoch_that_changes_before_the_beginning_is_begun_once() -> None:
    life = Life(plan(source_plan("a.x", 3600.0)))
    life.state.epoch_changed(life.now)
    decision = life.take(life.state.begin({}, life.now))
    assert [move.from_state for move in moves_of(decision)] == [None]


# what an operator, clients, a clock and the end of a call bring about


def later(now: Instant, seconds: float, *, set_by: float = 0.0) -> Instant:
    return Instant(now.mono + seconds, now.wall + seconds + set_by)


@pytest.fixture
def busy() -> Life:
    """A backend with two breakers, which has just asked for three seconds without a call."""
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0, breaker="other"), batch=True))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.ends("same")
    life.ends("busy")
    return life


def test_a_backend_that_asks_for_a_pause_is_noted_and_all_its_breakers_know(busy: Life) -> None:
    ends = later(busy.now, 3.0)
    assert [view.held_until for view in busy.state.breakers(busy.now)] == [ends, ends]
    (note,) = [note for note in busy.said[-1].notes if note.event == "backend asked for a pause"]
    assert note == Note("info", "backend asked for a pause", {"backend": "engine", "until": rfc3339(ends.wall)})
    busy.state.hint(["a.x"], busy.now)
    busy.passes(0.0)
    assert {view.type: view.next_poll_at for view in busy.state.sources(busy.now)}["a.x"] == ends.wall


@pytest.mark.parametrize(("action", "is_held"), [("force-open", True), ("force-closed", False), ("reset", False)])
def test_an_operator_who_lets_calls_through_at_one_breaker_ends_the_pause_at_all(
    busy: Life, action: Command, is_held: bool
) -> None:
    busy.take(busy.state.command("other", action, busy.now))
    assert [view.held_until is not None for view in busy.state.breakers(busy.now)] == [is_held, is_held]


def test_a_breaker_that_moves_is_noted_measured_and_told_first(life: Life) -> None:
    decision = life.take(life.state.command("engine", "force-open", life.now))
    assert decision.measurements == [BreakerMoved("engine", "open")]
    (note,) = decision.notes
    assert (note.level, note.event, note.fields["reason"]) == ("info", "breaker moved", "force_open")
    assert [move.breaker for move in moves_of(decision)] == ["engine"]
    first = life.take(Life(life.plan).state.begin({}, life.now))
    assert first.measurements == []


def test_the_event_of_a_breaker_that_opens_says_why_and_until_when_and_so_does_the_error() -> None:
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0)))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.ends("down")
    life.ends("down")
    retry_at = life.state.breaker("engine", life.now).retry_at
    assert retry_at is not None
    move = life.said[-1].drafts[0]
    about = frozenset({"a.x", "b.x"})
    assert move == Draft(type="circuit_breaker.state", data=move.data, key="engine", retain=True, about=about)
    assert msgspec.json.decode(move.data) == {
        "breaker": "engine",
        "state": "open",
        "from": "closed",
        "reason": "failure_threshold",
        "forced": False,
        "failure_count": 2,
        "open_count": 1,
        "opened_at": rfc3339(life.now.wall),
        "retry_at": rfc3339(retry_at),
    }
    errors = [draft for draft in life.said[-1].drafts if draft.type == "rpc_error"]
    assert [msgspec.json.decode(draft.data)["retry_at"] for draft in errors] == [rfc3339(retry_at)]


def test_only_idle_sources_that_somebody_wants_again_are_due_at_once() -> None:
    life = Life(
        plan(*(source_plan(name, 4.0, idle_interval_s=3600.0) for name in ("a.x", "b.x")), source_plan("c.x", 3600.0))
    )
    life.wanted = False
    life.take(life.state.begin({}, life.now))
    life.passes(8.0)
    while life.turns:
        life.ends("same")
    assert [view.interval_s for view in life.state.sources(life.now)] == [3600.0, 3600.0, 3600.0]
    assert not life.state.interest_changed(lambda name: name == "c.x", life.now)
    assert life.state.interest_changed(lambda name: name == "b.x", life.now)
    life.take(life.state.tick(life.now, is_wanted=lambda name: name == "b.x"))
    life.begin_turns()
    assert [source.type for turn in life.turns for source in turn.group] == ["b.x"]
    assert [view.interval_s for view in life.state.sources(life.now)] == [3600.0, 4.0, 3600.0]


def test_a_clock_that_is_set_has_every_value_saved_again_with_its_time_by_that_clock(life: Life) -> None:
    as_of = [view.as_of for view in life.state.sources(life.now)]
    assert None not in as_of
    decision = life.state.clock_set(later(life.now, 1.0, set_by=3600.0))
    assert decision.saves == [
        Save([SavedValue(name, "", b"0", (at or 0.0) + 3600.0)], [])
        for name, at in zip(("a.x", "b.x"), as_of, strict=True)
    ]
    assert decision.drafts == []


def test_what_is_owed_is_said_whatever_happens_next(life: Life) -> None:
    def becomes_owed() -> None:
        life.take(life.state.command("engine", "force-open", life.now))
        refuse_all(life)
        life.now = later(life.now, 0.5)

    becomes_owed()
    saves = life.take(life.state.clock_set(later(life.now, 0.0, set_by=3600.0)))
    assert [move.state for move in moves_of(saves)] == [State.OPEN]
    life.take(life.state.command("engine", "reset", life.now))
    life.state.hint(["a.x"], life.now)
    life.take(life.state.tick(life.now, is_wanted=life.is_wanted))
    turn = life.state.next_turn(life.now)
    assert turn is not None
    becomes_owed()
    fault = life.take(life.state.unprepared(turn, DOWN, life.now))
    assert [move.state for move in moves_of(fault)][-1] == State.OPEN
    assert "b.x" in [event_type for event_type, _, _ in published([fault])]


def test_when_a_breaker_closes_who_is_stale_or_had_a_tick_refused_is_asked_now_and_nobody_else() -> None:
    """Rule 5."""
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 8.0), source_plan("c.x", 64.0)))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.turns.sort(key=lambda turn: turn.group[0].type)
    life.ends("same")
    life.ends("same")
    life.ends("down")
    stale = [view.type for view in life.state.sources(life.now) if view.stale]
    life.take(life.state.command("engine", "force-open", life.now))
    life.passes(9.0)
    assert life.turns == []
    life.take(life.state.command("engine", "force-closed", life.now))
    next_poll_in = {view.type: view.next_poll_at - life.now.wall for view in life.state.sources(life.now)}
    for _ in range(8):
        life.passes(0.125)
        life.ends("same")
    asked = [view.type for view in life.state.sources(life.now) if (view.as_of or 0.0) > life.now.wall - 2.0]
    assert asked == sorted({*stale, "b.x"})
    assert [name for name in ("a.x", "b.x", "c.x") if next_poll_in[name] == 0.0] == asked
    assert stale == ["c.x"], "both reasons are tested"


def test_a_call_that_could_not_be_prepared_fails_its_sources_but_counts_for_no_breaker() -> None:
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0), batch=True, connections=1))
    life.take(life.state.begin({}, life.now))
    life.now = later(life.now, 2.0)
    life.take(life.state.tick(life.now, is_wanted=life.is_wanted))
    turn = life.state.next_turn(life.now)
    assert turn is not None
    decision = life.take(life.state.unprepared(turn, DOWN, later(life.now, 0.5)))
    assert decision.measurements == [
        PollEnded(name, "engine", ErrorCode.RPC_DISCONNECT, 0.5) for name in ("a.x", "b.x")
    ]
    assert [name for name, _ in decision.reports] == ["a.x", "b.x"]
    assert (life.state.attempted, life.state.breaker("engine", life.now).failure_count) == (True, 0)
    life.state.hint(["a.x"], life.now)
    life.passes(1.0)
    assert len(life.turns) == 1, "its connection is free again"


def test_a_probe_that_is_cancelled_judges_nothing_and_the_next_goes_at_once() -> None:
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0), connections=1))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.ends("down")
    life.ends("down")
    life.passes(4.0)
    (probe,) = life.turns
    before = life.state.breaker("engine", life.now)
    assert before.state is State.HALF_OPEN
    life.now = later(life.now, 0.5)
    for _ in range(2):
        life.state.abandoned(probe, life.now)
    assert life.state.breaker("engine", life.now) == before
    assert life.state.wake_at() is not None
    life.turns.clear()
    life.passes(0.0)
    assert len(life.turns) == 1, "one connection, one probe"
    assert life.turns[0] is not probe


def test_age_corrects_what_is_retained_of_the_sources_of_this_backend_and_nothing_else(life: Life) -> None:
    far = later(life.now, 3 * 3600.0)
    value = Draft(type="a.x", data=raw(0), retain=True, source="engine", stale=False)
    verdict = SourceFreshness(type="b.x", stale=False, error_code=None, as_of=None)
    freshness = Draft(type="source.freshness", data=raw(verdict), key="b.x", retain=True)
    assert life.state.corrected_for_age(value, life.now) is value
    corrected = [life.state.corrected_for_age(draft, far) for draft in (value, freshness)]
    assert [draft and (draft.type, draft.key) for draft in corrected] == [("a.x", None), ("source.freshness", "b.x")]
    assert corrected[0] is not None
    assert (corrected[0].stale, corrected[0].error_code) == (True, ErrorCode.OVERDUE)
    assert corrected[1] is not None
    assert msgspec.json.decode(corrected[1].data)["stale"] is True
    for event_type, key in (("z.x", None), ("source.freshness", "z.x"), ("source.freshness", None)):
        other = Draft(type=event_type, data=raw(0), key=key, retain=True)
        assert life.state.corrected_for_age(other, far) is None


def test_ticks_that_were_missed_and_the_next_are_shown() -> None:
    life = Life(plan(source_plan("a.x", 4.0)))
    life.take(life.state.begin({}, life.now))
    life.passes(9.0)
    (view,) = life.state.sources(life.now)
    first = life.turns[0].began
    assert (view.missed_ticks, view.next_poll_at) == (2, first.wall + 12.0)


def test_a_tick_that_the_breaker_refuses_at_the_last_moment_is_said_again() -> None:
    rules = msgspec.structs.replace(RULES, failure_threshold=9)
    life = Life(plan(source_plan("a.x", 8.0), source_plan("b.x", 8.0), connections=2, rules=rules))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    for kind in ("well", "well", "down", "down"):
        if not life.turns:
            life.passes(8.0)
        life.ends(kind)
    life.now = later(life.now, life.state.sources(life.now)[0].next_poll_at - life.now.wall)
    life.take(life.state.tick(life.now, is_wanted=life.is_wanted))
    first, second = (life.state.next_turn(life.now) for _ in range(2))
    assert first is not None
    assert second is not None
    life.take(life.state.admit(first, life.now))
    life.take(life.state.ended(first, [(BUSY, None)], life.now))
    decision = life.take(life.state.admit(second, life.now))
    assert (second.permit, second.is_over) == (None, True)
    (name,) = (source.type for source in second.group)
    assert list(published([decision])) == [(name, None, True)], "stale as before: said again, as at each due tick"
    assert life.state.carried(life.now).held_back == [name]


def test_a_turn_that_the_breaker_refuses_at_the_last_moment_is_made_up_for() -> None:
    rules = msgspec.structs.replace(RULES, failure_threshold=9)
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0), connections=2, rules=rules))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    life.ends("same")
    life.ends("same")
    life.state.hint(["b.x"], life.now)
    life.passes(0.0)
    life.ends("down")
    life.state.hint(["a.x"], life.now)
    life.passes(0.0)
    life.state.hint(["b.x"], life.now)
    life.take(life.state.tick(life.now, is_wanted=life.is_wanted))
    turn = life.state.next_turn(life.now)
    assert turn is not None
    life.ends("busy")
    decision = life.take(life.state.admit(turn, life.now))
    assert (turn.permit, turn.is_over) == (None, True)
    assert list(published([decision])) == [], "`stale_repeat` belongs to ticks, and this was none"
    assert life.state.carried(life.now).held_back == ["b.x"]
    life.passes(2.9)
    assert life.turns == []
    life.passes(0.2)
    assert [source.type for turn in life.turns for source in turn.group] == ["b.x"]


def test_when_a_breaker_opens_whoever_waits_is_sent_away_and_says_so_but_not_a_call_that_is_about_to_end() -> None:
    names = ("a.x", "b.x", "c.x", "d.x", "e.x")
    life = Life(plan(*(source_plan(name, 64.0) for name in names), connections=3))
    life.take(life.state.begin({}, life.now))
    life.passes(1.5)
    first, second, third = (turn.group[0].type for turn in life.turns)
    waiting = sorted(set(names) - {first, second, third})
    life.now = later(life.now, 2.0)  # all three are at their deadline
    for _ in range(2):
        turn = life.turns.pop(0)
        decision = life.take(life.state.ended(turn, [(DOWN, None)], life.now))
    assert [move.state for move in moves_of(decision)] == [State.OPEN]
    said = [draft.key for draft in decision.drafts if draft.type == "source.freshness"]
    assert sorted(filter(None, said)) == sorted([first, second, *waiting])
    assert life.state.next_turn(life.now) is None
    (error,) = [view.last_error for view in life.state.breakers(life.now)]
    assert error is not None
    assert (error.code, error.message, error.came_from) == (ErrorCode.RPC_DISCONNECT, "refused", frozenset({second}))
    assert third in {source.type for turn in life.turns for source in turn.group}


def test_a_call_at_its_deadline_says_itself_what_a_move_of_the_breaker_means(life: Life) -> None:
    life.state.hint(["a.x"], life.now)
    life.passes(0.0)
    life.now = later(life.now, 2.0)
    move = life.take(life.state.command("engine", "force-open", life.now))
    assert {event_type for event_type, _, _ in published([move])} & {"a.x", "b.x"} == {"b.x"}
    life.ends("down")
    assert ("a.x", None, True) in published([life.said[-1]])


def test_an_error_of_a_batch_names_the_sources_that_it_was_for() -> None:
    life = Life(plan(source_plan("a.x", 64.0), source_plan("b.x", 64.0), batch=True))
    life.take(life.state.begin({"a.x": {"": SavedValue("a.x", "", b"7", BEGINNING.wall - 2.0)}}, life.now))
    assert [(draft.type, draft.data) for draft in life.said[0].drafts if draft.type == "a.x"] == [("a.x", raw(7))]
    assert life.said[0].drafts[0].about == frozenset({"a.x", "b.x"})
    assert life.state.serves == {"engine": frozenset({"a.x", "b.x"})}
    life.passes(2.0)
    (turn,) = life.turns
    life.take(life.state.ended(turn, [(REFUSED_ACCOUNT, None), (DOWN, None)], life.now))
    error = life.state.breaker("engine", life.now).last_error
    assert error is not None
    assert (error.code, error.came_from) == (ErrorCode.RPC_DISCONNECT, frozenset({"b.x"}))


def test_who_was_a_probe_before_the_breaker_closed_stays_on_its_grid_and_the_others_are_asked_now() -> None:
    """Rule 5."""
    life = Life(plan(*(source_plan(name, 64.0) for name in ("a.x", "b.x", "c.x")), connections=2))
    life.take(life.state.begin({}, life.now))
    life.passes(2.0)
    for _ in range(3):
        life.ends("down")
    before = {view.type: view.next_poll_at for view in life.state.sources(life.now)}
    probes = []
    for _ in range(2):
        life.passes(1.0)
        (probe,) = life.turns
        probes.append(probe.group[0].type)
        life.ends("same")
    after = {view.type: view.next_poll_at for view in life.state.sources(life.now)}
    assert life.state.breaker("engine", life.now).state is State.CLOSED
    assert {name: after[name] for name in probes} == {name: before[name] for name in probes}
    assert [name for name, at in after.items() if at == life.now.wall] == sorted(set(before) - set(probes))


def test_age_wakes_the_poller_unless_something_is_owed_soon_which_sees_to_age_as_well() -> None:
    life = Life(plan(source_plan("a.x", 16.0)))
    life.take(life.state.begin({}, life.now))
    life.passes(5.0)
    life.ends("same")
    life.state.hint(["a.x"], life.now)  # off the grid, so that age and ticks differ
    life.passes(1.0)
    life.ends("same")
    life.state.hint(["a.x"], life.now)
    life.passes(1.0)  # this call does not end
    (view,) = life.state.sources(life.now)
    assert view.as_of is not None
    too_old_at = life.now.mono + view.as_of - life.now.wall + 32.0
    life.passes(too_old_at - life.now.mono - 0.25)
    assert life.state.wake_at() == too_old_at
    life.waiting = []
    life.take(life.state.command("engine", "reset", life.now))
    refuse_all(life)
    assert life.state.wake_at() == life.now.mono + 0.5
    nobody = Life(plan())
    nobody.passes(0.0)
    assert nobody.state.wake_at() is None, "without sources time changes nothing"


def keyed_life() -> tuple[Life, Any]:
    """One source of items, "1" at first; and what answers it with other items."""
    life = Life(plan(source_plan("a.x", 3600.0, key="id")))
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
