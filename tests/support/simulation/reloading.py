"""A world whose configuration is reloaded again and again, by the swap of `tidegate.live_parts`, in one turn."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any
from unittest import mock

from msgspec.structs import asdict

from simulation.backend import ScriptedBackend
from simulation.bus import Troubles
from simulation.checker import check_convergence, judge_ended
from simulation.clients import Client, Message, Visit
from simulation.record import Record
from simulation.reloads import ReloadScenario, draw_reloads
from simulation.switches import Step, Switches
from simulation.tap import Tap
from simulation.virtual import VirtualLoop
from simulation.world import Report, World, observed
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.live_parts import Ground, LiveParts
from tidegate.open_parts import OpenParts
from tidegate.parts import PollerParts, backend_part
from tidegate.plan import PlannedBackend, plan
from tidegate.ports import Backend
from tidegate.runtime.access import Gate
from tidegate.runtime.admission import Admissions
from tidegate.runtime.poller import BackendPoller
from tidegate.runtime.supervisor import Supervisor


class ReloadRecord(Record):
    """What is known of a world with reloads. `steps` are what was in force, `sessions` the taps of each backend."""

    def __init__(self, scenario: ReloadScenario) -> None:
        super().__init__(scenario)
        self.sessions: dict[str, list[Tap]] = {name: [] for name in scenario.fates}
        self.steps: list[Step] = []


def live_reloads(scenario: ReloadScenario, troubles: Troubles | None = None) -> tuple[Report, ReloadRecord]:
    """Let a world with reloads run, and judge it."""
    record = ReloadRecord(scenario)

    def judge(_: Record) -> None:
        if troubles is None:
            judge_ended(record, before=float("inf"))
            check_convergence(record)
        Switches(record, record.steps, record.sessions, is_steady=troubles is None).check()

    async def inline(function: Any, /, *args: Any, **how: Any) -> Any:
        return function(*args, **how)

    with mock.patch.object(asyncio, "to_thread", inline):  # there are no files in a world
        report = observed(record, lambda loop: ReloadedWorld(scenario, record, loop, troubles), judge=judge)
    return report, record


def reloaded(seed: int, *, hours: float = 0.5, troubles: Troubles | None = None) -> Report:
    """Let the world of `seed` run through its reloads, and judge it."""
    report, _ = live_reloads(draw_reloads(seed, hours=hours), troubles)
    return report


class NamingBackend(ScriptedBackend):
    """A backend that says in every answer what it was asked for, so that nobody takes it for another's answer."""

    def _data(self, method: str, now: float) -> bytes:
        of = b'"of":"%b"' % self.question(method)
        if method.endswith(".list"):
            items = [
                b'{"id":"%b",%b,"v":%d}' % (name, of, now // (70 + 30 * n))
                for n, name in enumerate((b"a", b"b", b"c"))
                if n == 0 or (now // 100 + n) % 3
            ]
            return b'{"items":[%b]}' % b",".join(items)
        state = b'{%b,"v":%d}' % (of, now // 45)
        return b'{"state":%b,"other":0}' % state if method.endswith(".part") else state

    def question(self, method: str) -> bytes:
        return f"{self.name}/{method}".encode()


class DefaultClient(Client):
    """Names no types, and comes and goes: it has what is the default when it comes."""

    defaults: Callable[[], Sequence[str]]
    names_types = False

    def _wanted(self) -> Sequence[str]:
        return self.defaults()

    def _since(self) -> str | None:
        return None

    def _hear(self, visit: Visit, text: bytes) -> None:
        if not visit.heard:  # they may have changed in the turns since it asked to connect
            visit.patterns = self.defaults()
        super()._hear(visit, text)

    def _length(self) -> float:
        return 10 ** self._rng.uniform(0, 2.5)

    def _away(self) -> float:
        return 10 ** self._rng.uniform(-1, 2)


class _Pollers(PollerParts, frozen=True, kw_only=True):
    """Makes the pollers of a world, and their sessions."""

    world: "ReloadedWorld"

    async def backend(self, plan: PlannedBackend, opened: OpenParts) -> Backend:
        return await opened.open(backend_part(plan.name), aclosing(self.world.session(plan)))

    def poller(self, plan: BackendPlan, backend: Backend) -> BackendPoller:
        return self.world.another_poller(plan, backend)


class ReloadedWorld(World):
    """The gateway put together of `LiveParts`."""

    _script = NamingBackend
    _scenario: ReloadScenario
    _record: ReloadRecord

    def __init__(
        self, scenario: ReloadScenario, record: ReloadRecord, loop: VirtualLoop, troubles: Troubles | None
    ) -> None:
        super().__init__(scenario, record, loop, troubles)
        self._begun: dict[str, int] = {}
        self._parts: LiveParts | None = None

    def session(self, planned: PlannedBackend) -> Tap:
        tap = self._tap(planned)
        self._record.sessions[planned.name].append(tap)
        return tap

    def another_poller(self, polling: BackendPlan, backend: Backend) -> BackendPoller:
        nth = self._begun[polling.name] = self._begun.get(polling.name, 0) + 1
        return self._poller(polling, backend, nth=f" {nth}")

    async def _gateway(self, stack: AsyncExitStack) -> Supervisor:
        wanted = plan(self._scenario.config)
        gateway = self._gateway_made = self._new_gateway(wanted)
        opened = await stack.enter_async_context(OpenParts())
        pollers = _Pollers(
            supplied={}, gateway=gateway, clock=self._clock, metrics=self._metrics, store=None, world=self
        )
        backends = {each.name: await pollers.backend(each, opened) for each in wanted.backends}
        polling = [pollers.poller(each.polling, backends[each.name]) for each in wanted.backends]
        supervisor = Supervisor(gateway, polling, store=None)
        admissions = Admissions(gateway, Gate(authenticator=gateway.authentication, **asdict(wanted.access)))
        await stack.enter_async_context(supervisor.running())
        websocket, serving = await self._serve(stack, admissions, wanted)
        nothing: Any = None
        self._parts = LiveParts(
            plan=wanted,
            ground=Ground(
                supplied={},
                clock=self._clock,
                metrics=nothing,
                store=None,
                listener=nothing,
                url="",
                certificate=None,
                reloads=nothing,
            ),
            gateway=gateway,
            opened=opened,
            backends=backends,
            marks={},
            pollers=pollers,
            supervisor=supervisor,
            admissions=admissions,
            websocket=websocket,
            serving=serving,
        )
        self._record.steps.append(Step(0.0, 0, self._scenario.config, frozenset(backends), frozenset()))
        return supervisor

    async def _change(self) -> None:
        for reload in self._scenario.reloads:
            await asyncio.sleep(reload.at - self._loop.time())
            assert self._parts is not None
            before, wanted = self._parts, plan(reload.config)
            known = {each.name: each.endpoint.service for each in before.plan.backends}
            asked = dict(before.backends)
            async with before.prepared(wanted) as prepared:
                now, position = self._loop.time(), before.gateway.position
                self._record.reloaded(now, reload.config)
                prepared.put_in_force()
            renewed = {name for name, backend in before.backends.items() if asked.get(name) is not backend}
            others = {each.name for each in wanted.backends if known.get(each.name) != each.endpoint.service}
            self._record.steps.append(Step(now, position.seq, reload.config, frozenset(renewed), frozenset(others)))

    def _clients(self) -> list[Client]:
        client = DefaultClient("default", self._scenario, heard=self._heard, ended=self._ended)
        client.defaults = lambda: self._gateway_made.options.default_types
        return [*super()._clients(), client]

    def _heard(self, client: str, now: float, message: Message, text: bytes) -> None:
        self._messages += 1
        self._record.heard(client, now, message, text)
        self._digest.update(b"%b %.6f %b\n" % (client.encode(), now, text))

    def _ended(self, visit: Visit) -> None:
        if self._troubles is None:
            super()._ended(visit)
