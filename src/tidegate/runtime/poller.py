"""The polling of one backend on asyncio: wait until something is due, make the calls, carry out what is decided.

`tidegate.core.polling.backend_state` decides everything. This module tells it the time, the outcomes of calls, and what
the bus took or refused. One task waits for the next thing that is due. Each turn is a task of its own, from its
preparation to the end of its call. Decisions are published through a lane, which keeps their order.
"""

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping
from functools import partial

import msgspec
import structlog

from tidegate.core.events import Draft
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.breaker_values import BreakerView, Reason
from tidegate.core.polling.decision import SavedValue
from tidegate.core.polling.held_source import HeldSource
from tidegate.core.polling.moves import Command
from tidegate.core.polling.outcome import Fault
from tidegate.core.polling.source_values import SourceView
from tidegate.core.polling.turn import Knock, Turn
from tidegate.ports import Backend, Clock, Metrics, Store
from tidegate.runtime.carrying_out import CarryingOut
from tidegate.runtime.deadline import set_or_due
from tidegate.runtime.exchange import can_knock, exchange, prepare, reached
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.hinting import Hinting

log = structlog.get_logger("tidegate.poller")


class BackendPoller:
    """Polls one backend until `run` is cancelled.

    `rng` is the source of phases and jitter. `store` is None if nothing is kept on disk.
    """

    def __init__(
        self,
        plan: BackendPlan,
        *,
        backend: Backend,
        gateway: Gateway,
        clock: Clock,
        metrics: Metrics,
        store: Store | None,
        rng: random.Random,
    ) -> None:
        self.name = plan.name
        self._plan = plan
        self._backend = backend
        self._gateway = gateway
        self._clock = clock
        self._state = BackendState(
            plan, now=clock.now(), draw=rng.random, keeps=store is not None, can_knock=can_knock(backend)
        )
        self.readings = partial(self._state.readings, clock.now)
        self._hinting = Hinting(plan, backend=backend, clock=clock, metrics=metrics, rng=rng, changed=self._changed)
        self._woken = asyncio.Event()
        self._decisions = CarryingOut(
            self._state, gateway.lane(f"poller {plan.name}"), gateway, clock, metrics, store, wake=self._woken.set
        )
        self._carry_out = self._decisions.carry_out
        self._knocks: dict[Knock, asyncio.Task[None]] = {}  # until they have found out what they are made for
        self._takes: dict[Turn, asyncio.Task[None]] = {}  # until the turn is over
        self._is_retired = False

    # questions, which change nothing

    @property
    def event_types(self) -> Collection[str]:
        """The event types of the backend's sources."""
        return self._state.event_types

    @property
    def serves(self) -> Mapping[str, frozenset[str]]:
        """The event types of the sources behind each breaker, by the breaker's name."""
        return self._state.serves

    @property
    def attempted(self) -> bool:
        """Whether every source was `Source.attempted`."""
        return self._state.attempted

    def breakers(self) -> list[BreakerView]:
        return self._state.breakers(self._clock.now())

    def sources(self) -> list[SourceView]:
        return self._state.sources(self._clock.now())

    def corrected_for_age(self, draft: Draft) -> Draft | None:
        """Return what a retained draft of one of this backend's sources has to say now; None for any other draft."""
        return self._state.corrected_for_age(draft, self._clock.now())

    # what happens elsewhere

    async def restore(self, saved: Mapping[str, Mapping[str, SavedValue]]) -> None:
        """Publish the state of each breaker and the `saved` values, by type and key. Wait until the bus has answered.

        A bus that does not answer within `publish_timeout_s` is waited for no longer: all of it is published later.
        """
        self._carry_out(self._state.begin(saved, self._clock.now()))
        await self._settled("start")

    async def command(self, breaker_name: str, action: Command) -> BreakerView:
        """Carry out an operator's command, publish it, and return the breaker as it is then.

        The command takes effect at once. If the bus does not answer within `publish_timeout_s`, this returns, and the
        command is published later. Raises `KeyError` for a breaker of another backend.
        """
        self._carry_out(self._state.command(breaker_name, action, self._clock.now()))
        self._woken.set()
        await self._settled(action)
        return self._state.breaker(breaker_name, self._clock.now())

    async def _settled(self, what: str) -> None:
        if not await self._decisions.lane.settled():
            log.warning("bus does not answer: published later", backend=self.name, what=what)

    def poll_now(self, event_types: Iterable[str]) -> None:
        """Poll the sources of `event_types` now: somebody says that something changed at the backend.

        If their breaker is open, its probe goes now, unless that was asked for a moment ago.
        """
        self._state.hint(event_types, self._clock.now())
        self._woken.set()

    def interest_changed(self) -> None:
        """Poll the idle sources that are wanted again, now. Call it after a client has subscribed to more."""
        if self._state.interest_changed(self._gateway.is_wanted, self._clock.now()):
            self._woken.set()

    def clock_set(self) -> None:
        """Save all values again, with their `as_of` by the new time. Call it after the wall clock was set."""
        self._carry_out(self._state.clock_set(self._clock.now()))

    def log_open_incidents(self) -> None:
        """Log what fails at the end of the program, since nobody will see its end."""
        self._carry_out(self._state.open_incidents(self._clock.now()))

    def epoch_changed(self) -> None:
        """Publish everything again, soon, for those who connect from now on. Call it when another epoch has begun."""
        self._state.epoch_changed(self._clock.now())
        self._woken.set()

    # another configuration

    def begin(self, *, adopted: Mapping[str, HeldSource] = {}) -> None:
        """Begin in the middle of the run, instead of `restore`: publish the state of each breaker.

        `adopted` are sources that another poller has released, by event type: see `replan`.
        """
        self._decisions.lane.follow_others()
        now = self._clock.now()
        self._carry_out(self._state.begin({}, now, reason=Reason.RELOAD))
        self._carry_out(self._state.replanning.replan(self._plan, now, held=adopted))
        self._woken.set()

    def replan(
        self,
        plan: BackendPlan,
        *,
        backend: Backend | None = None,
        is_other_service: bool = False,
        adopted: Mapping[str, HeldSource] = {},
    ) -> None:
        """Follow another `plan` of the same name from now on. What it leaves as it is goes on undisturbed.

        With `backend`, calls go to that one from now on, and those that are under way with the one before are given
        up; the caller closes that one. `is_other_service`: what is held says nothing of what it will answer.
        `adopted` are sources that another poller has released, by event type. Call `release`, and `retire` or `replan`,
        of that one first: what this one says of them is published after everything that the other one has said.
        """
        if adopted:
            self._decisions.lane.follow_others()
        knocks = None
        if backend is not None:
            self._backend, knocks = backend, can_knock(backend)
            self._hinting.follow_backend(backend)
        self._plan = plan
        self._hinting.follow(plan)
        decision = self._state.replanning.replan(
            plan, self._clock.now(), can_knock=knocks, is_other_service=is_other_service, held=adopted
        )
        self._carry_out(decision)
        self._cancel_given_up()

    def release(self, event_types: Collection[str]) -> dict[str, HeldSource]:
        """Take sources of this poller out without a word, for another one to adopt. Then call `replan` or `retire`."""
        return self._state.replanning.release(event_types, self._clock.now())

    def retire(self) -> None:
        """Tell that everything is gone. `run` ends once that is published: the caller closes the backend then."""
        self._is_retired = True
        nothing = msgspec.structs.replace(self._plan, sources=())
        self._carry_out(self._state.replanning.replan(nothing, self._clock.now(), can_knock=False))
        self._cancel_given_up()

    def _cancel_given_up(self) -> None:
        """Cancel the calls of turns that are over already."""
        for turn, task in self._takes.items():
            if turn.is_over:
                task.cancel()
        self._woken.set()

    # the loop

    async def run(self) -> None:
        """Poll until cancelled, or until everything is told after `retire`.

        Cancelling it cancels the calls under way, too; they do not count against the backend.
        """
        async with asyncio.TaskGroup() as turns:
            hints = turns.create_task(self._hinting.run(), name=f"hints of {self.name}")
            while not (self._is_retired and self._state.replanning.is_told):
                await self._wait()
                now = self._clock.now()
                is_stuck = self._decisions.find_stuck()
                self._carry_out(self._state.tick(now, is_wanted=self._gateway.is_wanted, only_news=is_stuck))
                # No call while the lane is stuck: its outcome could not be published, and decisions would pile up.
                # Turns that are due stay in the line until the bus has answered.
                while not is_stuck and (turn := self._state.next_turn(now)) is not None:
                    self._takes[turn] = task = turns.create_task(self._take(turn), name=f"poll {self.name}")
                    # A task that is cancelled before its first step never runs `_take`, nor its `finally`.
                    task.add_done_callback(partial(self._ensure_ended, turn))
                if (knock := self._state.next_knock()) is not None:
                    self._knocks[knock] = task = turns.create_task(self._knock(knock), name=f"knock at {self.name}")
                    task.add_done_callback(partial(self._ensure_knock_ended, knock))
                if self._state.begin_reading(now):
                    turns.create_task(self._read_secret(), name=f"read the secret of {self.name}")
                for knock, task in self._knocks.items():
                    if knock.is_over:  # it was dropped
                        task.cancel()
            hints.cancel()

    async def _wait(self) -> None:
        """Wait until something is due, or `_woken` is set."""
        if not self._woken.is_set():
            await set_or_due(self._woken, self._clock, self._state.wake_at())
        self._woken.clear()

    async def _take(self, turn: Turn) -> None:
        """Take one turn at the backend: prepare the call, make it, and carry out what its outcome leads to."""
        try:
            prepared = await prepare(self._backend, self._plan, self._clock)
            if isinstance(prepared, Fault):
                self._carry_out(self._state.unprepared(turn, prepared, self._clock.now()))
                return
            # Nothing is awaited between the permit and the call: during an await the breaker could open.
            self._carry_out(self._state.admit(turn, self._clock.now(), secret=prepared.secret or b""))
            if turn.permit is None:
                return
            plans = [source.plan for source in turn.group]
            outcomes = await exchange(prepared, self._plan, plans, self._clock)
            self._carry_out(self._state.ended(turn, outcomes, self._clock.now()))
        finally:
            self._ensure_ended(turn)
            self._woken.set()  # a connection of the backend is free: another turn may begin

    async def _knock(self, knock: Knock) -> None:
        """See whether the backend can be reached. If so, its probe goes at once."""
        found = await reached(self._backend, self._plan, self._clock)
        if self._decisions.lane.is_stuck(self._clock.now()):
            return  # as for every turn, no call is made then: the knock is given up
        del self._knocks[knock]
        log.debug("knocked", backend=self.name, reached=found)
        turn, decision = self._state.knocked(knock, self._clock.now(), reached=found)
        self._carry_out(decision)
        if turn is not None and (task := asyncio.current_task()) is not None:
            self._takes[turn] = task
            await self._take(turn)

    def _changed(self, event_types: Collection[str]) -> None:
        self._state.changed(event_types, self._clock.now())
        self._woken.set()

    async def _read_secret(self) -> None:
        """Read what the backend is asked with: a source whose account was refused may try again with another one."""
        prepared = await prepare(self._backend, self._plan, self._clock)
        if not isinstance(prepared, Fault):
            self._state.secret_read(prepared.secret or b"", self._clock.now())
            self._woken.set()

    def _ensure_knock_ended(self, knock: Knock, _: object) -> None:
        """Called after every knock. If it has not ended by itself, it was given up, perhaps before its first step."""
        if self._knocks.pop(knock, None) is not None:
            self._state.knock_abandoned(knock, self._clock.now())
        self._woken.set()

    def _ensure_ended(self, turn: Turn, _: object = None) -> None:
        """Called after every turn, perhaps twice. A turn that is not over by now was cancelled: give it up."""
        self._takes.pop(turn, None)
        if not turn.is_over:
            self._state.abandoned(turn, self._clock.now())
            self._woken.set()
