"""One world: the gateway put together as `tidegate.app` does, between scripted backends and its clients."""

import asyncio
import gc
import hashlib
import itertools
import random
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, suppress
from typing import Any
from unittest import mock

import msgspec
import structlog
from fanout import snapshots_of
from msgspec.structs import asdict

from simulation.backend import ScriptedBackend
from simulation.bus import Troubles, UnsteadyBus
from simulation.checker import check, note_ended
from simulation.clients import HOST, PORT, Changer, Client, Message, Picky, Resumer, Staller, Visit
from simulation.order import LOOK_S, Order
from simulation.record import WITNESS, Record
from simulation.scenario import Scenario, draw
from simulation.tap import Tap
from simulation.virtual import Listener, VirtualLoop, WorldClock, run_in_virtual_time
from tidegate.core.access.grant import UNRESTRICTED, Grant
from tidegate.core.measurements import Measurement
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.readings import Read
from tidegate.errors import UnknownName
from tidegate.inbound import server
from tidegate.inbound.multicast import send_to_all
from tidegate.inbound.websocket import WebSocketServer
from tidegate.inbound.websocket.server import PING_S
from tidegate.outbound.backends import HttpOptions, JsonRpcBackend
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.plan import Plan, PlannedBackend, plan
from tidegate.ports import Backend
from tidegate.runtime import housekeeping
from tidegate.runtime.access import Gate
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.poller import BackendPoller
from tidegate.runtime.supervisor import Supervisor

HOUSEKEEPING_S = 5.0
"""What the gateway looks after each second, it looks after so often here: that took a third of the time, and the date
of HTTP headers is not kept at all. Each connection is still pinged once in `PING_S`."""

LATER_TIMEOUT_S = 4.0
"""The timeout that a backend reckons with that is configured later."""

COLLECT_AFTER = 200_000
"""Objects between two garbage collections: a world of an hour needs none."""


class Report(msgspec.Struct, frozen=True):
    """What became of a world. `digest` is that of all that every client heard, and when."""

    seed: int
    digest: str
    messages: int
    exchanges: int
    violations: list[str]


class OpenDoor:
    """Everybody may do everything."""

    def verify(self, token: str) -> Grant:
        return UNRESTRICTED


class Uncounted:
    """Metrics that nobody asks for."""

    def observe(self, measured: Measurement) -> None:
        pass

    def read_from(self, read: Read) -> None:
        pass


def live(seed: int, *, hours: float = 1.0, troubles: Troubles | None = None) -> Report:
    """Let the world of `seed` run for `hours` of its time, and judge it; with `troubles` of the bus, by `order`."""
    return live_through(draw(seed, hours=hours), troubles)


def live_through(scenario: Scenario, troubles: Troubles | None = None) -> Report:
    """Let a world run, and judge it."""
    record = Record(scenario)
    return observed(
        record, lambda loop: World(scenario, record, loop, troubles), judge=check if troubles is None else None
    )


def observed(
    record: Record, world: Callable[[VirtualLoop], "World"], *, judge: Callable[[Record], None] | None
) -> Report:
    """Let a world run, and report what `judge` and the run itself say of it."""
    configured = structlog.get_config()
    structlog.configure(
        processors=[record.logged], wrapper_class=structlog.make_filtering_bound_logger("error"), context_class=dict
    )
    thresholds = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)
    try:
        with mock.patch.object(housekeeping, "REVIEW_S", HOUSEKEEPING_S):
            digest, messages = run_in_virtual_time(lambda loop: world(loop).run())
        if judge is not None:
            judge(record)
    except Exception as error:  # noqa: BLE001 - a world that breaks down is a finding like any other
        record.fail(-1, "".join(traceback.format_exception(error)))
        digest, messages = "", 0
    finally:
        structlog.configure(**configured)
        gc.set_threshold(*thresholds)
    return Report(
        record.scenario.seed,
        digest,
        messages,
        sum(len(tap.exchanges) for tap in record.taps.values()),
        record.violations,
    )


class World:
    """One world, from its beginning to its end."""

    def __init__(self, scenario: Scenario, record: Record, loop: VirtualLoop, troubles: Troubles | None = None) -> None:
        self._scenario = scenario
        self._record = record
        self._loop = loop
        self._clock = WorldClock(loop)
        self._digest = hashlib.blake2b(digest_size=16)
        self._messages = 0
        self._requests = itertools.count(1)
        self._troubles = troubles
        self._order: Order | None = None
        self._metrics = Uncounted()
        self._door = OpenDoor()
        loop.set_exception_handler(lambda _, context: record.fail(loop.time(), f"unhandled: {context}"))

    async def run(self) -> tuple[str, int]:
        scenario = self._scenario
        async with AsyncExitStack() as stack:
            self._scripts = {name: self._backend(name) for name in scenario.fates}
            for script in self._scripts.values():
                await stack.enter_async_context(_background(script.run()))
            supervisor = await self._gateway(stack)
            await stack.enter_async_context(_background(self._jump()))
            await stack.enter_async_context(_background(self._sleep()))
            await stack.enter_async_context(_background(self._poke(supervisor)))
            await stack.enter_async_context(_background(self._change()))
            if self._order is not None:
                await stack.enter_async_context(_background(self._compare(self._order, supervisor, self._gateway_made)))
            await asyncio.gather(*(client.run() for client in self._clients()))
        await asyncio.sleep(30)
        self._check_leaks()
        return self._digest.hexdigest(), self._messages

    _script = ScriptedBackend

    def _backend(self, name: str) -> ScriptedBackend:
        scenario = self._scenario
        settings = scenario.config.backends.get(name)
        timeout_s = LATER_TIMEOUT_S if settings is None else settings.timeout_s
        script = self._script(name, self._loop, scenario.fates[name], timeout_s=timeout_s, seed=scenario.seed)
        self._record.given[name] = script.given
        return script

    async def _gateway(self, stack: AsyncExitStack) -> Supervisor:
        """The composition of `tidegate.app.running`, on virtual time and virtual sockets."""
        wanted = plan(self._scenario.config)
        gateway = self._gateway_made = self._new_gateway(wanted)
        if self._troubles is not None:
            behind = {s.spec.type: s.breaker for each in wanted.backends for s in each.polling.sources}
            self._order = Order(self._record, behind)
        pollers = []
        for planned in wanted.backends:
            tap = self._tap(planned)
            stack.push_async_callback(tap.aclose)
            pollers.append(self._poller(planned.polling, tap))
        admissions = Admissions(gateway, Gate(authenticator=self._door, **asdict(wanted.access)))
        supervisor = Supervisor(gateway, pollers, store=None)
        await stack.enter_async_context(supervisor.running())
        await self._serve(stack, admissions, wanted)
        return supervisor

    def _new_gateway(self, wanted: Plan) -> Gateway:
        return Gateway(
            wanted.gateway,
            bus=MemoryBus("here") if self._troubles is None else UnsteadyBus(self._troubles, seed=self._scenario.seed),
            clock=self._clock,
            metrics=self._metrics,
            authenticator=self._door,
            multicast=send_to_all,
        )

    def _tap(self, planned: PlannedBackend) -> Tap:
        name = planned.name
        assert planned.endpoint.http is not None, "no plug-in is simulated"
        script = self._scripts[name]
        real = JsonRpcBackend(
            HttpOptions(url=planned.endpoint.http.url), wall_clock=self._clock.wall, connect=script.door.connected
        )
        tap = self._record.taps[name] = Tap(name, real, self._clock.now, secret=script.secret)
        return tap

    def _poller(self, polling: BackendPlan, backend: Backend, *, nth: str = "") -> BackendPoller:
        return BackendPoller(
            polling,
            backend=backend,
            gateway=self._gateway_made,
            clock=self._clock,
            metrics=self._metrics,
            store=None,
            rng=random.Random(f"poller {polling.name} {self._scenario.seed}{nth}"),
        )

    async def _serve(
        self, stack: AsyncExitStack, admissions: Admissions, wanted: Plan
    ) -> tuple[WebSocketServer, server.Serving]:
        websocket = WebSocketServer(self._gateway_made, admissions, wanted.websocket)
        websocket._slots = [{} for _ in range(int(PING_S / HOUSEKEEPING_S))]
        await stack.enter_async_context(websocket.running())
        listener: Any = Listener(self._loop, HOST, PORT, capacity=self._scenario.capacity)
        serving = await stack.enter_async_context(
            server.serve(
                _nothing,
                websocket,
                sock=listener,
                handshake_s=wanted.server.handshake_s,
                request_id=lambda _, __: f"r{next(self._requests)}",  # counted: drawn, no two worlds would be the same
            )
        )
        return websocket, serving

    def _clients(self) -> list[Client]:
        kinds: dict[str, type[Client]] = {
            WITNESS: Client,
            "resumer": Resumer,
            "picky": Picky,
            "changer": Changer,
            "staller": Staller,
        }
        return [kind(name, self._scenario, heard=self._heard, ended=self._ended) for name, kind in kinds.items()]

    def _ended(self, visit: Visit) -> None:
        if self._order is None:
            note_ended(self._record, visit, self._loop.time())

    def _heard(self, client: str, now: float, message: Message, text: bytes) -> None:
        self._messages += 1
        if self._order is None:
            self._record.heard(client, now, message, text)
        else:
            self._order.heard(client, now, message)
        self._digest.update(b"%b %.6f %b\n" % (client.encode(), now, text))

    async def _compare(self, order: Order, supervisor: Supervisor, gateway: Gateway) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            order.compare(self._loop.time(), supervisor, lambda name: snapshots_of(gateway, name))

    async def _jump(self) -> None:
        for at, seconds in self._scenario.jumps:
            await asyncio.sleep(at - self._loop.time())
            self._clock.jump(seconds)
            self._record.walls.jumped(self._loop.time(), seconds)

    async def _sleep(self) -> None:
        """The machine sleeps, with everything on it."""
        for at, seconds in self._scenario.sleeps:
            await asyncio.sleep(at - self._loop.time())
            begin = self._loop.time()
            self._loop.stand_still(seconds)
            self._record.sleeps.append((begin, self._loop.time()))

    async def _poke(self, supervisor: Supervisor) -> None:
        """Somebody says now and then that something has changed at a backend."""
        for at, backend in self._scenario.pokes:
            await asyncio.sleep(at - self._loop.time())
            self._record.pokes.append((self._loop.time(), backend))
            with suppress(UnknownName):  # it may have been removed
                await supervisor.poll(backend)

    async def _change(self) -> None:
        """What else is done to this world. Nothing to most."""

    def _check_leaks(self) -> None:
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            self._record.fail(self._loop.time(), f"tasks left behind: {left}")
        if self._loop.open_sockets:
            self._record.fail(self._loop.time(), f"{self._loop.open_sockets} sockets left open")


async def _nothing(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """No routes: only WebSockets are asked for."""
    raise NotImplementedError


class _background:  # noqa: N801 - used as a context manager
    """Something that runs while the context is open."""

    def __init__(self, work: Awaitable[None]) -> None:
        self._task = asyncio.ensure_future(work)

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            await self._task
