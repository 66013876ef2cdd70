"""Plans, sources and views of one backend, "engine", for tests of `tidegate.core.polling`."""

from typing import Any, TypeVar

import msgspec

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.breaker_values import BreakerRules, BreakerView, State, Transition
from tidegate.core.polling.call import Call
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.outcome import Answer, ClassifyPolicy, Fault, Outcome
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_values import SourceSpec, Value
from tidegate.core.polling.turn import Turn, Why
from tidegate.core.shaping import Shape
from tidegate.errors import ErrorCode

Measured = TypeVar("Measured")


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def breaker_view(
    state: State,
    *,
    cause: ErrorCode | None = None,
    retry_at: float | None = None,
    held_until: Instant | None = None,
) -> BreakerView:
    """A breaker in `state`, of which nothing is known but why, until when, and whether the backend is held."""
    return BreakerView(
        name="engine",
        state=state,
        forced=False,
        since=0.0,
        failure_count=0,
        failure_threshold=5,
        success_count=0,
        open_count=0,
        open_max_s=15.0,
        half_open_successes=1,
        retry_at=retry_at,
        last_error=None,
        cause=cause,
        held_until=held_until,
    )


def source_plan(
    name: str,
    interval_s: float,
    *,
    breaker: str = "engine",
    key: str | None = None,
    idle_interval_s: float | None = None,
    ignore: tuple[str, ...] = (),
    timeout_s: float = 2.0,
    **fields: Any,
) -> SourcePlan:
    """A source; `fields` are those of its `SourceSpec`. It is keyed if it has a `key`."""
    spec = SourceSpec(
        type=name, backend="engine", interval_s=interval_s, timeout_s=timeout_s, keyed=key is not None, **fields
    )
    shape = Shape(ignore=ignore) if key is None else Shape(items=("",), key=((key,),), ignore=ignore)
    return SourcePlan(spec=spec, call=Call(name), breaker=breaker, shape=shape, idle_interval_s=idle_interval_s)


def backend_plan(
    *sources: SourcePlan,
    rules: BreakerRules,
    batch: bool = False,
    connections: int = 16,
    rpc_error_interval_s: float = 5.0,
    retry_s: float = 0.0,
) -> BackendPlan:
    """Without `retry_s` no failed call is repeated, so that most tests have only the calls that they are about."""
    return BackendPlan(
        name="engine",
        timeout_s=2.0,
        batch=batch,
        connections=connections,
        breaker=rules,
        policy=ClassifyPolicy(),
        event_bytes=1000,
        rpc_error_interval_s=rpc_error_interval_s,
        retry_s=retry_s,
        sources=sources,
    )


def moves_of(decision: Decision) -> list[Transition]:
    """The moves of breakers in `decision`, without the ends of those that are gone."""
    return [move for move in decision.moves if isinstance(move, Transition)]


def polled(plan: BackendPlan) -> dict[str, Source]:
    """The sources of `plan`, by name, of which nothing was asked yet."""
    return {each.spec.type: Source(each, plan, keeps=False, now=Instant(0.0, 0.0)) for each in plan.sources}


def call_ended(
    source: Source,
    outcome: Outcome,
    now: Instant,
    *,
    breaker: BreakerView | None = None,
    secret: bytes | None = None,
    jitter: float = 0.0,
) -> None:
    """A call of `source` began and ended `now`, with `outcome`; an answer has the value 0."""
    source.calls.sent(now, at_tick=True, timeout_s=2.0)
    source.calls.end_turn()
    source.ended(
        outcome,
        raw(0) if isinstance(outcome, Answer) else None,
        sent=now,
        now=now,
        breaker=breaker_view(State.CLOSED) if breaker is None else breaker,
        draw=lambda: jitter,
        into=Decision(),
        secret=secret,
    )


class Driven:
    """A backend whose calls end as `answers` says, `latency_s` after they began. Draws are all `draw`.

    `answers` is asked for each source of a call; without an entry it is a good answer. `reached` is what a knock finds
    at once. `asked` and `knocks` say when it was asked and knocked at, in seconds since the beginning.
    """

    def __init__(
        self,
        plan: BackendPlan,
        *,
        can_knock: bool = False,
        draw: float = 0.5,
        latency_s: float = 0.01,
        begins: bool = True,
    ) -> None:
        self.plan = plan
        self.now = Instant(0.0, 1_795_000_000.0)
        self.state = BackendState(plan, now=self.now, draw=lambda: draw, keeps=False, can_knock=can_knock)
        self.answers: dict[str, Outcome] = {}
        self.latency_s = latency_s
        self.secret = b"old"
        self.reached = False
        self.wanted = True
        self.asked: list[tuple[float, str]] = []
        self.whys: list[Why] = []
        self.knocks: list[float] = []
        self.decisions: list[Decision] = []
        self.most_in_flight = 0
        self._out: list[tuple[float, Turn]] = []
        if begins:
            self.take(self.state.begin({}, self.now))

    def take(self, decision: Decision) -> Decision:
        self.decisions.append(decision)
        self.state.taken(decision)
        return decision

    def replan(self, plan: BackendPlan, **arguments: Any) -> Decision:
        """The backend is polled by another plan. In another session, the calls under way are given up."""
        self.plan = plan
        decision = self.take(self.state.replanning.replan(plan, self.now, **arguments))
        self._out = [(at, turn) for at, turn in self._out if not turn.is_over]
        return decision

    def passes(self, seconds: float) -> None:
        """Time passes, from one thing that is due to the next."""
        until = self.now.mono + seconds
        for _ in range(100_000):
            times = [self.state.wake_at(), *(at for at, _ in self._out)]
            next_at = max(self.now.mono, min((at for at in times if at is not None), default=until + 1.0))
            if next_at > until:
                self.sleeps(until - self.now.mono)
                return
            self.sleeps(next_at - self.now.mono)
            self.step()
        raise AssertionError("it wakes again and again")

    def sleeps(self, seconds: float) -> None:
        """Time passes, and nothing runs."""
        self.now = Instant(self.now.mono + seconds, self.now.wall + seconds)

    def step(self) -> None:
        """Do all that is due now."""
        for at, call in list(self._out):
            if at <= self.now.mono:
                self._out.remove((at, call))
                ends = [self._end_of(source.type) for source in call.group]
                self.take(self.state.ended(call, ends, self.now))
        self.take(self.state.tick(self.now, is_wanted=lambda _: self.wanted))
        while (turn := self.state.next_turn(self.now)) is not None:
            self._send(turn)
        if (knock := self.state.next_knock()) is not None:
            self.knocks.append(self.now.mono)
            probe, decision = self.state.knocked(knock, self.now, reached=self.reached)
            self.take(decision)
            if probe is not None:
                self._send(probe)
        if self.state.begin_reading(self.now):
            self.state.secret_read(self.secret, self.now)

    def _end_of(self, name: str) -> tuple[Outcome, Value | None]:
        outcome = self.answers.get(name, Answer(raw(0)))
        return outcome, raw(0) if isinstance(outcome, Answer) else None

    def _send(self, turn: Turn) -> None:
        self.take(self.state.admit(turn, self.now, secret=self.secret))
        if turn.permit is not None:
            self.asked += [(round(self.now.mono, 4), source.type) for source in turn.group]
            self.whys += [turn.why] * len(turn.group)
            self._out.append((self.now.mono + self.latency_s, turn))
            self.most_in_flight = max(self.most_in_flight, len(self._out))

    @property
    def under_way(self) -> list[Turn]:
        """The turns whose call has not ended, oldest first."""
        return [turn for _, turn in self._out]

    @property
    def breaker(self) -> BreakerView:
        return self.state.breakers(self.now)[0]

    def all_fail(self, fault: Fault) -> None:
        self.answers = {each.spec.type: fault for each in self.plan.sources}

    def since(self, seconds: float) -> list[tuple[float, str, Why]]:
        """Who was asked from then on, when and why."""
        calls = zip(self.asked, self.whys, strict=True)
        return [(at, name, why) for (at, name), why in calls if at >= seconds - 1e-6]

    def measured(self, kind: type[Measured]) -> list[Measured]:
        return [each for decision in self.decisions for each in decision.measurements if isinstance(each, kind)]
