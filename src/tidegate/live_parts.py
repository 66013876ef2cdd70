"""The parts of a running gateway that follow another plan: those that are replaced, and those that are told.

What a new plan needs is made beside what is running. Then everything is put in force within one turn of the event
loop, and what it replaces is closed in the background.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import asdict, replace

from tidegate.inbound import server
from tidegate.inbound.http_api import Door
from tidegate.inbound.websocket import WebSocketServer
from tidegate.open_parts import OpenParts
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.backends import opening
from tidegate.parts import PollerParts, backend_part, tls_context
from tidegate.plan import Plan
from tidegate.ports import Authenticator, Backend
from tidegate.runtime.access import Gate
from tidegate.runtime.admission import Admissions
from tidegate.runtime.rearranging import NewBackend, Rearrangement
from tidegate.runtime.supervisor import Supervisor

ACCESS = "access"
"""The name of the authenticator among `OpenParts`."""


class LiveParts(msgspec.Struct, kw_only=True):
    """The parts, which follow `plan` at the moment. `api` makes the routes that a plan describes, and may block."""

    plan: Plan
    opened: OpenParts
    pollers: PollerParts
    backends: dict[str, Backend]
    supervisor: Supervisor
    admissions: Admissions
    websocket: WebSocketServer
    serving: server.Serving
    certificate: server.Certificate | None
    api: Callable[[Plan], Door]

    @asynccontextmanager
    async def prepared(self, wanted: Plan) -> AsyncIterator[Callable[[], None]]:
        """Make what `wanted` needs beside what is running, and yield the function that puts it all in force.

        It awaits nothing, and does not fail. If it is not called, everything that was made is closed again, and nothing
        has changed. Address, store and prefix of `wanted` are those of `plan`, and it has TLS if `plan` has.

        Raises `ConfigError` for a file that cannot be used, and whatever making a part raises.
        """
        async with self.opened.beside() as new:
            tls = await asyncio.to_thread(tls_context, wanted.tls)
            authenticator = await self._authenticator(wanted, new)
            backends = await self._backends(wanted, new)
            to = self._rearrangement(wanted, backends)
            gate = Gate(authenticator=self.pollers.gateway.authentication, **asdict(wanted.access))
            door = await self._door(wanted)

            def put_in_force() -> None:
                self._tell(wanted)
                ending = self.supervisor.rearrange(to)
                self._have_used(backends, wanted)
                self.admissions.gate = gate
                if authenticator is not None:
                    self.pollers.gateway.authenticate_with(authenticator)
                if self.certificate is not None and tls is not None:
                    self.certificate.use(tls)
                if door is not None:
                    self.serving.answer_with(door, door.at_once)
                after = {backend_part(name): task for name, task in ending.items()}
                self.opened.take_over(new, dropped=list(after), after=after)
                self.plan = wanted

            yield put_in_force

    def _tell(self, wanted: Plan) -> None:
        """Tell the parts that are not replaced what is different for them."""
        gateway = self.pollers.gateway
        # The types of sources that are removed stay reserved: a client may still believe what it was told of them.
        types = gateway.options.source_types | wanted.gateway.source_types
        gateway.apply(replace(wanted.gateway, source_types=types))
        self.websocket.follow(wanted.websocket)
        self.serving.limit(**asdict(wanted.server))

    async def _authenticator(self, wanted: Plan, new: OpenParts) -> Authenticator | None:
        """Make another authenticator, unless it would be the same: one whose files are read again is not."""
        known = wanted.authentication
        if known == self.plan.authentication and not authentication.reads_files(known):
            return None
        return await new.open(ACCESS, authentication.opened_with_keys(known, self.pollers.clock))

    async def _backends(self, wanted: Plan, new: OpenParts) -> dict[str, Backend]:
        """Make the backends that are added, and those to which connections are made in another way."""
        known = {backend.name: backend.endpoint for backend in self.plan.backends}
        made = {}
        for plan in wanted.backends:
            old = known.get(plan.name)
            is_supplied = plan.name in self.pollers.supplied
            if old is None or not (is_supplied or plan.endpoint.is_served_by_session_of(old)):
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
        return None if told == known else await asyncio.to_thread(self.api, wanted)
