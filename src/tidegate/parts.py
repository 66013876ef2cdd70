"""What a gateway is made of: the parts that an embedding program brings, and how others are made from a plan.

Each function that opens something is a context manager: what it yields is closed, or ends, with the context. Which
part is entered when is for `tidegate.app` to say.
"""

import random
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from pathlib import Path

import msgspec

from tidegate.inbound import server
from tidegate.inbound.http_api import Door, http_api
from tidegate.inbound.multicast import send_to_all
from tidegate.inbound.sse import EventStreams
from tidegate.outbound.backends import opening
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.outbound.store_sqlite import SqliteStore
from tidegate.plan import Plan, PlannedBackend, TlsFiles
from tidegate.ports import Authenticator, Backend, Clock, Metrics, RenderedMetrics, Store
from tidegate.runtime.admission import Admissions
from tidegate.runtime.exchange import close
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.runtime.poller import BackendPoller
from tidegate.runtime.supervisor import Supervisor


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the embedding program brings along; what is None, or a backend that is not named, is made by the gateway.

    The gateway closes the `store` and the `backends` when it ends, and when it fails to start.
    """

    backends: Mapping[str, Backend] = {}
    clock: Clock | None = None
    metrics: RenderedMetrics | None = None
    store: Store | None = None


OUR_OWN = Parts()


@asynccontextmanager
async def held(parts: Parts) -> AsyncIterator[None]:
    """The store and the backends that were brought along, used or not, are closed with the context."""
    async with AsyncExitStack() as stack:
        if parts.store is not None:
            stack.push_async_callback(parts.store.aclose)
        for name, backend in parts.backends.items():
            stack.push_async_callback(close, backend, name)
        yield


def tls_context(files: TlsFiles | None) -> ssl.SSLContext | None:
    """What our own TLS needs; None without files. Reads them; raises `ConfigError` where they cannot be used."""
    return None if files is None else server.tls_context(files.tls_cert_file, files.tls_key_file)


@asynccontextmanager
async def opened_store(directory: Path | None, brought: Store | None) -> AsyncIterator[Store | None]:
    """What keeps last good values: the one that was `brought`, else what is in `directory`; None where neither is.

    Closes only what it has opened. Raises `StoreError` where the directory cannot be used.
    """
    if brought is not None or directory is None:
        yield brought
        return
    async with aclosing(await SqliteStore.open(directory)) as store:
        yield store


@asynccontextmanager
async def opened_gateway(
    options: GatewayOptions, authenticator: Authenticator, *, clock: Clock, metrics: Metrics
) -> AsyncIterator[Gateway]:
    """The gateway on a bus of its own, for a supervisor to run. What it has to say of refusals is said at the end."""
    gateway = Gateway(
        options,
        bus=MemoryBus(),
        clock=clock,
        metrics=metrics,
        authenticator=authenticator,
        multicast=send_to_all,
    )
    with closing(gateway.refusals):
        yield gateway


@asynccontextmanager
async def opened_pollers(
    plans: Iterable[PlannedBackend],
    brought: Mapping[str, Backend],
    *,
    gateway: Gateway,
    clock: Clock,
    metrics: Metrics,
    store: Store | None,
) -> AsyncIterator[list[BackendPoller]]:
    """A poller of each backend, for a supervisor to run. A backend that was not `brought` is made.

    Closes only what it has made. Raises `ConfigError` where a file that is needed for a backend cannot be used.
    """
    async with AsyncExitStack() as stack:
        pollers = []
        for plan in plans:
            backend = brought.get(plan.name)
            if backend is None:
                backend = await stack.enter_async_context(opening.opened(plan.reached))
            pollers.append(
                BackendPoller(
                    plan.polled,
                    backend=backend,
                    gateway=gateway,
                    clock=clock,
                    metrics=metrics,
                    store=store,
                    rng=random.Random(),
                )
            )
        yield pollers


def api(
    plan: Plan, *, url: str, gateway: Gateway, supervisor: Supervisor, admissions: Admissions, metrics: RenderedMetrics
) -> Door:
    """The routes of a gateway that is reached at `url`, event streams among them."""
    streams = EventStreams(gateway, transport_of=server.transport_of, soft_bytes=plan.stream_soft_bytes)
    return http_api(
        gateway,
        supervisor,
        admissions,
        options=plan.api,
        url=url,
        open_stream=streams.open,
        transport_of=server.transport_of,
        render_metrics=metrics.render,
    )
