"""The composition root: `running` starts the parts of a gateway in order, and stops them in reverse order."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from msgspec.structs import asdict

from tidegate.config import Config
from tidegate.core.reloads import Reloaded
from tidegate.inbound.address import bound, url_of
from tidegate.live_parts import Ground, started
from tidegate.outbound.clock import SystemClock
from tidegate.outbound.metrics import PrometheusMetrics
from tidegate.parts import DEFAULTS, Parts, opened_store, owned_parts, shown_certificate
from tidegate.plan import plan
from tidegate.reloading import Reloads
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.supervisor import Supervisor

__all__ = ["App", "Parts", "running"]


class App:
    """A running gateway, as `running` yields it. `url` is the address that it listens on."""

    def __init__(self, url: str, gateway: Gateway, supervisor: Supervisor, reloads: Reloads) -> None:
        self.url = url
        self.gateway = gateway
        self.supervisor = supervisor
        self.reloads = reloads

    async def reload(self, config: Config) -> Reloaded:
        """Put another configuration in force, without disconnecting a client. See `Reloads.reload` for errors."""
        return await self.reloads.reload(config)

    async def drain(self) -> None:
        """Disconnect all clients, spread over the configured time. New requests are answered 503 from now on."""
        options = self.gateway.options
        await self.gateway.drain(options.drain_s, at_least_s=options.drain_min_s)


@asynccontextmanager
async def running(
    config: Config,
    parts: Parts = DEFAULTS,
    *,
    beside: AbstractAsyncContextManager[None] | None = None,
    reread: Callable[[], Config] | None = None,
) -> AsyncIterator[App]:
    """Run the gateway that `config` describes while the context is open. `parts` replace the default implementations.

    The context `beside` is entered after the address is bound and the state directory locked, but before the first
    poll. `reread` reads the configuration again for a reload; it may block, and is called in a thread.
    Raises `ConfigError` if a file cannot be used, `OSError` if the address cannot be bound, and `StoreError` if
    the state directory cannot be used. Leaving the context stops everything at once: call `App.drain` before.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(owned_parts(parts))  # first, so that they are closed even if the start fails
        wanted = plan(config)
        clock = SystemClock() if parts.clock is None else parts.clock
        metrics = PrometheusMetrics(**asdict(wanted.metrics)) if parts.metrics is None else parts.metrics
        listener = stack.enter_context(bound(**asdict(wanted.address)))
        certificate = await enter(shown_certificate(wanted.tls, clock, metrics))
        url = url_of(listener, tls=certificate is not None)
        store = await enter(opened_store(wanted.store, parts.store, metrics))
        reloads = Reloads(config, reread=reread, clock=clock, metrics=metrics)
        ground = Ground(
            supplied=parts.backends,
            clock=clock,
            metrics=metrics,
            store=store,
            listener=listener,
            url=url,
            certificate=certificate,
            reloads=reloads,
        )
        live = await enter(started(wanted, ground, beside=beside))
        await enter(reloads.of(live))
        yield App(url, live.gateway, live.supervisor, reloads)
