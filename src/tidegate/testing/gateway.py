"""A real gateway in the test's own event loop, on a free port, and what a test does with it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from tidegate import client
from tidegate.app import App, Parts, running
from tidegate.config import Config, from_document
from tidegate.core.breaker_values import BreakerView
from tidegate.core.envelope import raw
from tidegate.core.events import Draft, Position
from tidegate.core.grant import UNRESTRICTED
from tidegate.ports import Backend, Clock, RenderedMetrics, Store
from tidegate.testing.following import Follower

NOWHERE = "http://backend.invalid"
"""The URL of a backend that a configuration only names (RFC 2606): it is never asked for."""

OURS = {"port": 0, "state_dir": ""}
"""A test takes no port from anybody, and leaves nothing behind."""

LOOK_AGAIN_S = 0.001


class RunningGateway:
    """A gateway that runs, as made by `gateway`. `app` is all of it; `url` is where it listens."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.url = app.url

    @asynccontextmanager
    async def follow(
        self, *patterns: str, token: str | None = None, since: str | None = None
    ) -> AsyncIterator[Follower]:
        """A client of `patterns`, without any the gateway's defaults. See `tidegate.client.connect`."""
        async with client.connect(self.url, types=patterns or None, token=token, since=since) as stream:
            yield Follower(stream)

    async def publish(self, event_type: str, data: object, *, key: str | None = None, retain: bool = False) -> Position:
        """Publish one event, as a publisher may. Raises `PublishError`."""
        draft = Draft(type=event_type, data=raw(data), key=key, retain=retain)
        return await self.app.gateway.publish_from_outside([draft], UNRESTRICTED)

    async def poll(self, backend: str) -> None:
        """Have the sources of `backend` asked now, if its breaker permits; what comes of it comes as events.

        Raises `UnknownName`.
        """
        await self.app.supervisor.poll(backend)

    async def command(self, breaker: str, action: str) -> BreakerView:
        """``force-open``, ``force-closed`` or ``reset`` a breaker. Raises `UnknownName`."""
        return await self.app.supervisor.command(breaker, action, by="test")


@asynccontextmanager
async def gateway(
    config: Config | Mapping[str, object],
    *,
    backends: Mapping[str, Backend] | None = None,
    clock: Clock | None = None,
    metrics: RenderedMetrics | None = None,
    store: Store | None = None,
) -> AsyncIterator[RunningGateway]:
    """The gateway of `config`, which may be the tables of a ``tidegate.toml``, for as long as the context is open.

    It listens on a free port, has no state directory, and reads nothing from the environment. `backends`, by name,
    answer in the place of those that the configuration tells of; a table for them may be left out. When the context
    is entered every source has been asked once. Leaving it ends everything at once.

    Raises `ConfigError` with everything that is wrong with the configuration.
    """
    fakes = backends or {}
    parts = Parts(backends=fakes, clock=clock, metrics=metrics, store=store)
    async with running(_for_test(config, fakes), parts) as app:
        await _first_answers(app)
        yield RunningGateway(app)


def _for_test(config: Config | Mapping[str, object], backends: Mapping[str, Backend]) -> Config:
    if isinstance(config, Config):
        return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **OURS))
    return from_document(
        {**config, "backends": _with_urls(config.get("backends", {}), backends)},
        environ={},
        overrides={f"server.{key}": value for key, value in OURS.items()},
    )


def _with_urls(tables: object, backends: Mapping[str, Backend]) -> object:
    """`tables` of backends, in which what is to be replaced is there and has a URL; what is no table is let be."""
    if not isinstance(tables, Mapping):
        return tables
    named = {name: tables.get(name, {}) for name in backends}
    return {**tables, **{n: {"url": NOWHERE, **table} for n, table in named.items() if isinstance(table, Mapping)}}


async def _first_answers(app: App) -> None:
    for name in {source.backend for source in app.supervisor.sources()}:
        await app.supervisor.poll(name)
    while app.supervisor.readiness().status == "starting":  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(LOOK_AGAIN_S)
