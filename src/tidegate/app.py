"""The whole gateway: `running` enters its parts one after the other, and leaves them in the opposite order."""

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
from tidegate.parts import OUR_OWN, Parts, api, held, opened_gateway, opened_pollers, opened_store, tls_context
from tidegate.plan import plan
from tidegate.runtime.access import Gate
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.supervisor import Supervisor

__all__ = ["App", "Parts", "running"]


class App:
    """A running gateway. `url` is where it listens."""

    def __init__(
        self, url: str, gateway: Gateway, supervisor: Supervisor, *, drain_s: float, drain_min_s: float
    ) -> None:
        self.url = url
        self.gateway = gateway
        self.supervisor = supervisor
        self._drain_s = drain_s
        self._drain_min_s = drain_min_s

    async def drain(self) -> None:
        """Let the clients go, within the configured time; the listener answers 503 meanwhile."""
        await self.gateway.drain(self._drain_s, at_least_s=self._drain_min_s)


@asynccontextmanager
async def running(
    config: Config, parts: Parts = OUR_OWN, *, beside: AbstractAsyncContextManager[None] | None = None
) -> AsyncIterator[App]:
    """The gateway of `config`, listening and polling while the context is open. `parts` replace what it is made of.

    `beside` is open for as long: from when the address and the state directory are ours, before anything is polled.
    Raises `ConfigError` where a file cannot be used, `OSError` where the address cannot be bound, `StoreError` where
    the state directory cannot. Leaving the context ends everything at once; call `App.drain` before that.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(held(parts))
        wanted = plan(config)
        clock = SystemClock() if parts.clock is None else parts.clock
        metrics = PrometheusMetrics(**asdict(wanted.metrics)) if parts.metrics is None else parts.metrics
        listener = stack.enter_context(bound(**asdict(wanted.address)))
        tls = tls_context(wanted.tls)
        url = url_of(listener, tls=tls is not None)
        authenticator = await enter(authentication.opened(wanted.authentication, clock))
        store = await enter(opened_store(wanted.store, parts.store))
        gateway = await enter(opened_gateway(wanted.gateway, authenticator, clock=clock, metrics=metrics))
        pollers = await enter(
            opened_pollers(wanted.backends, parts.backends, gateway=gateway, clock=clock, metrics=metrics, store=store)
        )
        supervisor = Supervisor(gateway, pollers, store=store)
        admissions = Admissions(gateway, Gate(authenticator=authenticator, **asdict(wanted.access)))
        websocket = WebSocketServer(gateway, admissions, wanted.websocket)
        routes = api(wanted, url=url, gateway=gateway, supervisor=supervisor, admissions=admissions, metrics=metrics)
        refused = partial(gateway.refusals.note, "http")
        if beside is not None:
            await enter(beside)
        await enter(supervisor.running())
        await enter(websocket.running())
        await enter(server.serve(routes, websocket, sock=listener, ssl=tls, refused=refused, **asdict(wanted.server)))
        yield App(url, gateway, supervisor, **asdict(wanted.drain))
