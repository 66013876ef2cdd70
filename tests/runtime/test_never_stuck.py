"""No sequence of outcomes, cancellations, back-offs and commands leaves a breaker half-open without a way out.

Hypothesis writes the story of one backend, the poller lives it in virtual time. After each step a breaker that is
half-open has a probe under way or waiting for a place, unless all of its sources are held back, by a hold or by their
own back-off; and once the backend is well again, every breaker closes and every source that can be fresh is.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from fanout import open_at_once
from house import TIMEOUT_S, House, source
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from simulation.virtual import VirtualLoop

from tidegate.core.polling.breaker_values import BreakerRules, State
from tidegate.core.polling.outcome import ClassifyPolicy
from tidegate.core.shaping import Shape
from tidegate.errors import ApplicationError, BackendError, Disconnected, HttpStatus, InvalidResponse, NoCredentials
from tidegate.ports import Ask, Call

HOLD_MAX_S = 15.0
OPEN_MAX_S = 8.0
INTERVALS_S = {"a.x": 1.0, "b.x": 3.0, "c.x": 10.0}

ANSWERS: dict[str, Any] = {
    "well": Raw(b'{"here":1}'),
    "mapping": Raw(b'{"elsewhere":1}'),
    "method": ApplicationError(-32601, "no such method"),
    "application": ApplicationError(-32000, "no"),
    "path": HttpStatus(404, "404"),
    "account": HttpStatus(401, "401"),
    "down": Disconnected("refused"),
    "error": HttpStatus(500, "500"),
    "busy": HttpStatus(503, "503", retry_after_s=6.0),
    "too many": HttpStatus(429, "429", retry_after_s=1000.0),
    "junk": Raw(b"not json"),
    "absent": InvalidResponse("no answer with this id in the batch"),
    "cancelled": asyncio.CancelledError(),
    "hang": "hang",
    "late": "late",
}


class Story:
    """A backend of which each source gets what the story says now, and the token is there or is not."""

    def __init__(self) -> None:
        self.answers = dict.fromkeys(INTERVALS_S, "well")
        self.has_token = True
        self.running = 0

    async def prepare(self) -> Ask:
        await asyncio.sleep(0.01)
        if not self.has_token:
            raise NoCredentials("no token")
        return self.call

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        self.running += 1
        try:
            await asyncio.sleep(0.05)
            names = [self.answers[call.method] for call in calls]
            if "hang" in names or "late" in names:
                await asyncio.sleep(3600.0 if "hang" in names else 0.9 * TIMEOUT_S)
            answers = [ANSWERS["well" if name in {"hang", "late"} else name] for name in names]
            for answer in answers:
                if isinstance(answer, HttpStatus | Disconnected | asyncio.CancelledError):
                    raise answer
            return answers
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        return None


class Life:
    """One run of a story."""

    def __init__(self, *, batch: bool, connections: int, own: bool, rules: BreakerRules) -> None:
        self.story = Story()
        sources = [
            source(
                name,
                interval_s=interval_s,
                shape=Shape(select="/here"),
                breaker="engine/c.x" if own and name == "c.x" else "engine",
            )
            for name, interval_s in INTERVALS_S.items()
        ]
        self.house = House(
            *sources,
            batch=batch,
            connections=connections,
            breaker=rules,
            policy=ClassifyPolicy(retry_after_max_s=HOLD_MAX_S),
            backend=self.story,
        )
        self._opened = open_at_once(self.house.gateway)
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self._task = asyncio.create_task(self.house.poller.run())

    async def end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def live(self, step: tuple[str, Any]) -> None:
        match step:
            case "answers", answers:
                self.story.answers = dict(zip(INTERVALS_S, answers, strict=True))
            case "token", is_there:
                self.story.has_token = is_there
            case "command", (action, which):
                breakers = list(self.house.poller.serves)
                await self.house.poller.command(breakers[which % len(breakers)], action)
            case "hint", _:
                self.house.poller.poll_now(list(self.house.poller.event_types))
            case "restart", _:
                await self.end()
                await self.begin()
            case "passes", seconds:
                await asyncio.sleep(seconds)
        await asyncio.sleep(0.005)
        # A turn may end at this very instant: whoever is next is chosen in it too, a few turns of the loop later.
        for _ in range(5):
            await asyncio.sleep(0)
        assert self._task is not None
        assert not self._task.done(), self._task
        self.check()

    def check(self) -> None:
        poller, now = self.house.poller, asyncio.get_running_loop().time()
        in_flight = sum(source.calls.in_flight for source in poller._state._sources.values())
        assert self.story.running <= self.house.poller._plan.connections
        for view in poller.breakers():
            if view.state is not State.HALF_OPEN or view.next_try_at(poller._clock.now()) is not None:
                continue
            siblings = [s for s in poller._state._sources.values() if s.plan.breaker == view.name]
            able = [s for s in siblings if not s.calls.in_flight and s.calls.waits_until <= now]
            assert not able or any(s.calls.in_flight for s in siblings), f"{view}: nobody probes, {in_flight} in flight"

    async def heal(self) -> None:
        """The backend is well again, for all but who asks it wrongly, and no operator holds a breaker."""
        wrong = {name: what for name, what in self.story.answers.items() if what in {"mapping", "method"}}
        self.story.answers = dict.fromkeys(INTERVALS_S, "well") | wrong
        self.story.has_token = True
        for name, view in zip(self.house.poller.serves, self.house.poller.breakers(), strict=True):
            if view.forced:
                await self.house.poller.command(name, "reset")
        # The end of a hold, an open period and an account's back-off, one after the other; then each one's turn.
        await asyncio.sleep(HOLD_MAX_S + 2 * OPEN_MAX_S + 5 * TIMEOUT_S + 2.5 * max(INTERVALS_S.values()))
        assert {view.state for view in self.house.poller.breakers()} == {State.CLOSED}
        stale = {view.type: view.error_code for view in self.house.poller.sources() if view.type not in wrong}
        assert set(stale.values()) == {None} or not stale, stale


STEPS = st.one_of(
    st.tuples(st.just("answers"), st.tuples(*(st.sampled_from(sorted(ANSWERS)) for _ in INTERVALS_S))),
    st.tuples(st.just("passes"), st.sampled_from([0.02, 0.4, 1.0, 3.0, 9.0])),
    st.tuples(st.just("token"), st.booleans()),
    st.tuples(
        st.just("command"),
        st.tuples(st.sampled_from(["force-open", "force-closed", "reset"]), st.integers(0, 1)),
    ),
    st.tuples(st.sampled_from(["hint", "restart"]), st.none()),
)
RULES = st.builds(
    BreakerRules,
    failure_threshold=st.integers(1, 3),
    open_s=st.sampled_from([0.5, 2.0]),
    open_max_s=st.just(OPEN_MAX_S),
    half_open_successes=st.integers(1, 3),
    heal_s=st.just(20.0),
)


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(
    steps=st.lists(STEPS, min_size=1, max_size=25),
    batch=st.booleans(),
    connections=st.sampled_from([1, 2, 16]),
    own=st.booleans(),
    rules=RULES,
)
def test_a_backend_that_is_well_again_is_always_found(
    steps: list[tuple[str, Any]], batch: bool, connections: int, own: bool, rules: BreakerRules
) -> None:
    async def run() -> None:
        life = Life(batch=batch, connections=connections, own=own, rules=rules)
        await life.begin()
        for step in steps:
            await life.live(step)
        await life.heal()
        await life.end()
        assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
