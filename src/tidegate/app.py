"""The composition root: `running` starts the parts of a gateway in order, and stops them in reverse order."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from msgspec.structs import asdict

from tidegate.config import Config
from tidegate.inbound import server
from tidegate.inbound.address import bound, url_of
from tidegate.inbound.websocket import WebSocketServer
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.clock import SystemClock
from tidegate.outbound.metrics import PrometheusMetrics
from tidegate.parts import DEFAULTS, Parts, api, new_gateway, new_pollers, opened_store, owned_parts, tls_context
from tidegate.plan import plan
from tidegate.runtime.access import Gate
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.supervisor import Supervisor

__all__ = ["App", "Parts", "running"]


class App:
    """A running gateway, as `running` yields it. `url` is the address that it listens on."""

    def __init__(
        self, url: str, gateway: Gateway, supervisor: Supervisor, *, drain_s: float, drain_min_s: float
    ) -> None:
        self.url = url
        self.gateway = gateway
        self.supervisor = supervisor
        self._drain_s = drain_s
        self._drain_min_s = drain_min_s

    async def drain(self) -> None:
        """Disconnect all clients, spread over the configured time. New requests are answered 503 from now on."""
        await self.gateway.drain(self._drain_s, at_least_s=self._drain_min_s)


@asynccontextmanager
async def running(
    config: Config, parts: Parts = DEFAULTS, *, beside: AbstractAsyncContextManager[None] | None = None
) -> AsyncIterator[App]:
    """Run the gateway that `config` describes while the context is open. `parts` replace the default implementations.

    The context `beside` is entered after the address is bound and the state directory locked, but before the first
    poll. Raises `ConfigError` if a file cannot be used, `OSError` if the address cannot be bound, and `StoreError` if
    the state directory cannot be used. Leaving the context stops everything at once: call `App.drain` before.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(owned_parts(parts))  # first, so that they are closed even if the start fails
        wanted = plan(config)
        clock = SystemClock() if parts.clock is None else parts.clock
        metrics = PrometheusMetrics(**asdict(wanted.metrics)) if parts.metrics is None else parts.metrics
        listener = stack.enter_context(bound(**asdict(wanted.address)))
        tls = tls_context(wanted.tls)
        url = url_of(listener, tls=tls is not None)
        authenticator = await enter(authentication.opened(wanted.authentication, clock))
        store = await enter(opened_store(wanted.store, parts.store, metrics))
        gateway = await enter(new_gateway(wanted.gateway, authenticator, clock=clock, metrics=metrics, store=store))
        pollers = await enter(
            new_pollers(wanted.backends, parts.backends, gateway=gateway, clock=clock, metrics=metrics, store=store)
        )
        supervisor = Supervisor(gateway, pollers, store=store)
        admissions = Admissions(gateway, Gate(authenticator=gateway.authentication, **asdict(wanted.access)))
        websocket = WebSocketServer(gateway, admissions, wanted.websocket)
        routes = api(wanted, url=url, gateway=gateway, supervisor=supervisor, admissions=admissions, metrics=metrics)
        refused = partial(gateway.refusals.note, "http")
        if beside is not None:
            await enter(beside)
        await enter(supervisor.running())
        await enter(websocket.running())
        serving = partial(server.serve, routes, websocket, at_once=routes.at_once, refused=refused)
        await enter(serving(sock=listener, ssl=tls, **asdict(wanted.server)))  # last: every part is running by then
        yield App(url, gateway, supervisor, **asdict(wanted.drain))
