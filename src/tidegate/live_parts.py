"""The parts of a running gateway that follow another plan: those that are replaced, and those that are told.

What a new plan needs is made beside what is running. Then everything is put in force within one turn of the event
loop, and what it replaces is closed in the background.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec
from msgspec.structs import asdict

from tidegate import files
from tidegate.errors import TidegateError
from tidegate.inbound import server
from tidegate.inbound.http_api import Door, Reloading
from tidegate.inbound.websocket import WebSocketServer
from tidegate.open_parts import OpenParts
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.backends import opening
from tidegate.outbound.metrics import PrometheusMetrics
from tidegate.parts import PollerParts, api, backend_part, new_gateway
from tidegate.plan import Plan
from tidegate.ports import Authenticator, Backend, Clock, RenderedMetrics, Store
from tidegate.runtime.access import Gate
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.rearranging import NewBackend, Rearrangement
from tidegate.runtime.supervisor import Supervisor

ACCESS = "access"
"""The name of the authenticator among `OpenParts`."""


class HalfInForce(TidegateError):
    """Putting a plan in force has failed half-way, by a mistake of ours: some parts may follow the new plan."""


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway stands on, and keeps whatever its plan. `supplied` are backends that are not made, by name."""

    supplied: Mapping[str, Backend]
    clock: Clock
    metrics: RenderedMetrics
    store: Store | None
    listener: socket.socket
    url: str
    certificate: server.Certificate | None
    reloads: Reloading


class Prepared(msgspec.Struct, frozen=True):
    """What another plan needs has been made. `put_in_force` awaits nothing.

    It raises `HalfInForce` only for a mistake of ours. All of both plans stays open then, since either may be in use.
    `renewed` are the settings of certificates whose files have another content than when they were read before.
    """

    put_in_force: Callable[[], None]
    renewed: frozenset[str]


class LiveParts(msgspec.Struct, kw_only=True):
    """The parts, which follow `plan` at the moment.

    `backends` are those that are asked, by name. `marks` are those of the files with certificates for them, by setting.
    """

    plan: Plan
    ground: Ground
    gateway: Gateway
    opened: OpenParts
    backends: dict[str, Backend]
    marks: dict[str, files.Mark]
    pollers: PollerParts
    supervisor: Supervisor
    admissions: Admissions
    websocket: WebSocketServer
    serving: server.Serving

    @asynccontextmanager
    async def prepared(self, wanted: Plan) -> AsyncIterator[Prepared]:
        """Make what `wanted` needs beside what is running.

        If it is not put in force before the context is left, everything that was made is closed again, and nothing has
        changed. Address, store and prefix of `wanted` are those of `plan`, and it has TLS if `plan` has.

        Raises `ConfigError` for a file that cannot be used, and whatever making a part raises.
        """
        async with self.opened.beside() as new:
            named = wanted.tls
            tls = None if named is None else await asyncio.to_thread(server.LoadedCertificate.read, named)
            marks = await asyncio.to_thread(_marks, wanted)
            renewed = {setting for setting, mark in marks.items() if self.marks.get(setting, mark) != mark}
            authenticator = await self._authenticator(wanted, new)
            backends = await self._backends(wanted, new, renewed)
            to = self._rearrangement(wanted, backends)
            gate = Gate(authenticator=self.gateway.authentication, **asdict(wanted.access))
            door = await self._door(wanted)

            def put_in_force() -> None:
                self._tell(wanted)
                ending = self.supervisor.rearrange(to)
                self._have_used(backends, wanted)
                self.admissions.gate = gate
                if authenticator is not None:
                    self.gateway.authenticate_with(authenticator)
                if self.ground.certificate is not None and tls is not None:
                    self.ground.certificate.use(tls)
                if door is not None:
                    self.serving.answer_with(door, door.at_once)
                after = {backend_part(name): task for name, task in ending.items()}
                self.opened.take_over(new, dropped=list(after), after=after)
                self.plan, self.marks = wanted, marks

            yield Prepared(partial(self._all_of, put_in_force, new), frozenset(renewed) | self._renewed(tls))

    def _all_of(self, put_in_force: Callable[[], None], new: OpenParts) -> None:
        try:
            put_in_force()
        except Exception as error:
            self.opened.keep_beside(new)
            raise HalfInForce(f"putting another plan in force has failed half-way: {error!r}") from error

    def _renewed(self, tls: server.LoadedCertificate | None) -> set[str]:
        shown = self.ground.certificate
        is_new = tls is not None and shown is not None and tls.marks != shown.loaded.marks
        return {"server.tls_cert_file"} if is_new else set()

    def _tell(self, wanted: Plan) -> None:
        """Tell the parts that are not replaced what is different for them."""
        self.gateway.apply(wanted.gateway)
        self.websocket.follow(wanted.websocket)
        self.serving.limit(**asdict(wanted.server))
        if isinstance(self.ground.metrics, PrometheusMetrics):
            self.ground.metrics.follow(wanted.metrics.names)

    async def _authenticator(self, wanted: Plan, new: OpenParts) -> Authenticator | None:
        """Make another authenticator, unless it would be the same: one whose files are read again is not."""
        known = wanted.authentication
        if known == self.plan.authentication and not authentication.reads_files(known):
            return None
        return await new.open(
            ACCESS, authentication.opened_with_keys(known, self.ground.clock, observe=self.ground.metrics.observe)
        )

    async def _backends(self, wanted: Plan, new: OpenParts, renewed: set[str]) -> dict[str, Backend]:
        """Make the backends that are added, and those to which connections are made in another way."""
        known = {backend.name: backend.endpoint for backend in self.plan.backends}
        made = {}
        for plan in wanted.backends:
            old = known.get(plan.name)
            is_supplied = plan.name in self.ground.supplied
            is_alike = old is not None and plan.endpoint.is_served_by_session_of(old)
            if old is None or not (is_supplied or (is_alike and renewed.isdisjoint(plan.endpoint.certificates))):
                made[plan.name] = await self.pollers.backend(plan, new)
        return made

    def _rearrangement(self, wanted: Plan, backends: Mapping[str, Backend]) -> Rearrangement:
        known = {backend.name: backend for backend in self.plan.backends}
        plans = {plan.name: plan for plan in wanted.backends}
        going_on = plans.keys() & known.keys()
        return Rearrangement(
            plans={name: plan.polling for name, plan in plans.items()},
            unchanged=frozenset(name for name in going_on if plans[name].polling == known[name].polling),
            backends={
                name: NewBackend(backend, plans[name].endpoint.service != known[name].endpoint.service)
                for name, backend in backends.items()
                if name in known
            },
            added={
                name: self.pollers.poller(plans[name].polling, backend)
                for name, backend in backends.items()
                if name not in known
            },
        )

    def _have_used(self, backends: Mapping[str, Backend], wanted: Plan) -> None:
        """Note which backends are used, and tell those that stay how long idle connections are kept."""
        self.backends = {plan.name: backends.get(plan.name) or self.backends[plan.name] for plan in wanted.backends}
        for plan in wanted.backends:
            opening.keep_idle(self.backends[plan.name], plan.endpoint)

    async def _door(self, wanted: Plan) -> Door | None:
        told, known = (wanted.api, wanted.stream_soft_bytes), (self.plan.api, self.plan.stream_soft_bytes)
        return (
            None
            if told == known
            else await asyncio.to_thread(_api, wanted, self.ground, self.gateway, self.supervisor, self.admissions)
        )


@asynccontextmanager
async def started(
    plan: Plan, ground: Ground, *, beside: AbstractAsyncContextManager[None] | None
) -> AsyncIterator[LiveParts]:
    """Start all parts in order, and yield them; leaving stops them in reverse order. `tidegate.app` says what raises.

    `beside` is entered before the first poll.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        opened = await enter(OpenParts())
        gateway = await enter(_gateway(plan, ground, opened))
        pollers = _poller_parts(ground, gateway)
        marks = _marks(plan)  # first: a change while the files are read must be noticed later
        backends = {each.name: await pollers.backend(each, opened) for each in plan.backends}
        polling = [pollers.poller(each.polling, backends[each.name]) for each in plan.backends]
        supervisor = Supervisor(gateway, polling, store=ground.store)
        ground.metrics.read_from(supervisor.readings)
        admissions = Admissions(gateway, Gate(authenticator=gateway.authentication, **asdict(plan.access)))
        websocket = WebSocketServer(gateway, admissions, plan.websocket)
        door = _api(plan, ground, gateway, supervisor, admissions)
        if beside is not None:
            await enter(beside)
        await enter(supervisor.running())
        await enter(websocket.running())
        # Last: every part is running by then.
        serving = await enter(_serving(plan, ground, door, websocket, admissions, gateway))
        yield LiveParts(
            plan=plan,
            ground=ground,
            gateway=gateway,
            opened=opened,
            backends=backends,
            marks=marks,
            pollers=pollers,
            supervisor=supervisor,
            admissions=admissions,
            websocket=websocket,
            serving=serving,
        )


@asynccontextmanager
async def _gateway(plan: Plan, ground: Ground, opened: OpenParts) -> AsyncIterator[Gateway]:
    access = authentication.opened(plan.authentication, ground.clock, observe=ground.metrics.observe)
    made = new_gateway(
        plan.gateway,
        await opened.open(ACCESS, access),
        clock=ground.clock,
        metrics=ground.metrics,
        store=ground.store,
    )
    async with made as gateway:
        yield gateway


def _poller_parts(ground: Ground, gateway: Gateway) -> PollerParts:
    return PollerParts(
        supplied=ground.supplied, gateway=gateway, clock=ground.clock, metrics=ground.metrics, store=ground.store
    )


def _serving(
    plan: Plan, ground: Ground, door: Door, websocket: WebSocketServer, admissions: Admissions, gateway: Gateway
) -> AbstractAsyncContextManager[server.Serving]:
    return server.serve(
        door,
        websocket,
        door.at_once,
        sock=ground.listener,
        ssl=None if ground.certificate is None else ground.certificate.context,
        refused=partial(gateway.refusals.note, "http"),
        request_id=admissions.request_id,
        **asdict(plan.server),
    )


def _marks(plan: Plan) -> dict[str, files.Mark]:
    """Look at the files with certificates for backends. Blocks."""
    return {
        setting: files.mark(path)
        for backend in plan.backends
        for setting, path in backend.endpoint.certificates.items()
    }


def _api(plan: Plan, ground: Ground, gateway: Gateway, supervisor: Supervisor, admissions: Admissions) -> Door:
    return api(
        plan,
        url=ground.url,
        gateway=gateway,
        supervisor=supervisor,
        admissions=admissions,
        metrics=ground.metrics,
        reloads=ground.reloads,
        store=ground.store,
    )
