"""The parts of a gateway: those that an embedding program supplies, and how the others are made from a plan.

What has to be closed again is yielded by a context manager. `tidegate.app` decides in which order parts are made.
"""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from pathlib import Path

import msgspec

from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.inbound import server
from tidegate.inbound.http_api import Door, Reloading, http_api
from tidegate.inbound.multicast import send_to_all
from tidegate.inbound.sse import EventStreams
from tidegate.open_parts import OpenParts
from tidegate.outbound.backends import opening
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.outbound.store_sqlite import SqliteStore
from tidegate.plan import Plan, PlannedBackend
from tidegate.ports import Authenticator, Backend, Clock, Metrics, Reading, RenderedMetrics, Store
from tidegate.runtime.admission import Admissions
from tidegate.runtime.exchange import close
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.runtime.keeping import kept_running
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


@asynccontextmanager
async def shown_certificate(
    files: server.TlsFiles | None, clock: Clock, metrics: Metrics
) -> AsyncIterator[server.Certificate | None]:
    """Yield what the server shows its clients, and renew it while the context is open; None without files.

    Raises `ConfigError` if they cannot be used.
    """
    if files is None:
        yield None
        return
    certificate = server.Certificate(server.LoadedCertificate.read(files))
    metrics.read_from(lambda: _expiry(certificate))
    async with kept_running({"certificate": lambda: certificate.renew(clock)}, clock, observe=metrics.observe):
        yield certificate


def _expiry(certificate: server.Certificate) -> list[Reading]:
    at = certificate.expires_at
    return [] if at is None else [Reading("tidegate_certificate_expiry_timestamp_seconds", at)]


@asynccontextmanager
async def opened_store(directory: Path | None, supplied: Store | None, metrics: Metrics) -> AsyncIterator[Store | None]:
    """Yield the store of values: `supplied`, or else the one in `directory`, or else None.

    Closes only a store that it has opened. Raises `StoreError` if the directory cannot be used.
    """
    if supplied is not None or directory is None:
        yield supplied
        return
    async with aclosing(await SqliteStore.open(directory, observe=metrics.observe)) as store:
        metrics.read_from(store.readings)
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
    metrics.read_from(gateway.readings)
    with closing(gateway.refusals), closing(gateway.clients.log):
        yield gateway


class PollerParts(msgspec.Struct, frozen=True, kw_only=True):
    """What all pollers of a gateway have in common. `supplied` are backends that are not made, by name."""

    supplied: Mapping[str, Backend]
    gateway: Gateway
    clock: Clock
    metrics: Metrics
    store: Store | None

    async def backend(self, plan: PlannedBackend, opened: OpenParts) -> Backend:
        """Return the supplied backend of that name, or else make one, which is among `opened` then.

        Raises `ConfigError` if a file that it needs cannot be used.
        """
        if plan.name in self.supplied:
            return self.supplied[plan.name]
        return await opened.open(backend_part(plan.name), opening.opened(plan.endpoint, self.clock))

    def poller(self, plan: BackendPlan, backend: Backend) -> BackendPoller:
        """Make a poller, which has not begun."""
        return BackendPoller(
            plan,
            backend=backend,
            gateway=self.gateway,
            clock=self.clock,
            metrics=self.metrics,
            store=self.store,
            rng=random.Random(),
        )


def backend_part(name: str) -> str:
    """Return the name of the backend `name` among `OpenParts`."""
    return f"backend {name}"


def api(
    plan: Plan,
    *,
    url: str,
    gateway: Gateway,
    supervisor: Supervisor,
    admissions: Admissions,
    metrics: RenderedMetrics,
    reloads: Reloading,
    store: Store | None,
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
        reloads=reloads,
        read_store=store.readings if isinstance(store, SqliteStore) else None,
    )
