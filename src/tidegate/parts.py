"""The parts of a gateway: those that an embedding program supplies, and how the others are made from a plan.

What has to be closed again is yielded by a context manager. `tidegate.app` decides in which order parts are made.
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
    """The parts that an embedding program supplies.

    The gateway makes the parts that are None, and the backends that are not in `backends`. It closes the `store` and
    the `backends` when it ends, and also if it fails to start.
    """

    backends: Mapping[str, Backend] = {}
    clock: Clock | None = None
    metrics: RenderedMetrics | None = None
    store: Store | None = None


DEFAULTS = Parts()
"""The gateway makes every part itself."""


@asynccontextmanager
async def owned_parts(parts: Parts) -> AsyncIterator[None]:
    """Own the supplied store and backends: close them when the context ends, whether the gateway used them or not."""
    async with AsyncExitStack() as stack:
        if parts.store is not None:
            stack.push_async_callback(parts.store.aclose)
        for name, backend in parts.backends.items():
            stack.push_async_callback(close, backend, name)
        yield


def tls_context(files: TlsFiles | None) -> ssl.SSLContext | None:
    """Make the server's TLS context from `files`, or return None without files.

    Reads the files. Raises `ConfigError` if they cannot be used.
    """
    return None if files is None else server.tls_context(files.tls_cert_file, files.tls_key_file)


@asynccontextmanager
async def opened_store(directory: Path | None, supplied: Store | None, metrics: Metrics) -> AsyncIterator[Store | None]:
    """Yield the store of values: `supplied`, or else the one in `directory`, or else None.

    Closes only a store that it has opened. Raises `StoreError` if the directory cannot be used.
    """
    if supplied is not None or directory is None:
        yield supplied
        return
    async with aclosing(await SqliteStore.open(directory, observe=metrics.observe)) as store:
        yield store


@asynccontextmanager
async def new_gateway(
    options: GatewayOptions, authenticator: Authenticator, *, clock: Clock, metrics: Metrics, store: Store | None
) -> AsyncIterator[Gateway]:
    """Yield a new gateway on an in-memory bus; a supervisor opens it. Logs the last summary of refusals at the end."""
    gateway = Gateway(
        options,
        bus=MemoryBus(),
        clock=clock,
        metrics=metrics,
        authenticator=authenticator,
        multicast=send_to_all,
        store=store,
    )
    with closing(gateway.refusals):
        yield gateway


@asynccontextmanager
async def new_pollers(
    plans: Iterable[PlannedBackend],
    supplied: Mapping[str, Backend],
    *,
    gateway: Gateway,
    clock: Clock,
    metrics: Metrics,
    store: Store | None,
) -> AsyncIterator[list[BackendPoller]]:
    """Yield a new poller for each backend; a supervisor runs them. A backend that is not in `supplied` is made.

    Closes only the backends that it has made. Raises `ConfigError` if a file that a backend needs cannot be used.
    """
    async with AsyncExitStack() as stack:
        pollers = []
        for plan in plans:
            backend = supplied.get(plan.name)
            if backend is None:
                backend = await stack.enter_async_context(opening.opened(plan.endpoint, clock))
            pollers.append(
                BackendPoller(
                    plan.polling,
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
    """Make the HTTP API of a gateway whose URL is `url`, event streams included."""
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
