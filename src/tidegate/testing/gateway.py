"""A real gateway in the test's own event loop, on a free port."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from tidegate import client
from tidegate.app import App, Parts, running
from tidegate.config import Config, from_document
from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.envelope import raw
from tidegate.core.events import Draft, Position
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.ports import Backend, Clock, RenderedMetrics, Store
from tidegate.testing.following import Follower

NOWHERE = "http://backend.invalid"
"""The URL of a backend that the test supplies. It is never contacted: RFC 2606 reserves the name."""

SERVER_SETTINGS = {"port": 0, "state_dir": ""}
"""A test uses any free port, and leaves no files behind."""

CHECK_EVERY_S = 0.001


class RunningGateway:
    """A running gateway, made by `gateway`. `app` gives access to its parts; `url` is where it listens."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.url = app.url

    @asynccontextmanager
    async def follow(
        self, *patterns: str, token: str | None = None, since: str | None = None
    ) -> AsyncIterator[Follower]:
        """Connect a client that subscribes to `patterns`, or without any to the gateway's default types.

        See `tidegate.client.connect` for `token` and `since`.
        """
        async with client.connect(self.url, types=patterns or None, token=token, since=since) as stream:
            yield Follower(stream)

    async def publish(self, event_type: str, data: object, *, key: str | None = None, retain: bool = False) -> Position:
        """Publish one event, as a client with the role publisher would. Raises `PublishError`."""
        draft = Draft(type=event_type, data=raw(data), key=key, retain=retain)
        return await self.app.gateway.publishers.publish([draft], UNRESTRICTED)

    async def poll(self, backend: str, *event_types: str) -> None:
        """Poll the sources of `backend` now, or only those of `event_types`, if their breaker permits.

        The results come as events. Raises `UnknownName`.
        """
        await self.app.supervisor.poll(backend, only=event_types)

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
    """Run a gateway while the context is open. `config` may be the tables of a ``tidegate.toml``.

    The gateway listens on a free port, has no state directory, and ignores environment variables. `backends`, by name,
    replace those of the configuration, which then need no table there. When the context has been entered, every source
    has been polled once. Leaving the context stops everything at once.

    Raises `ConfigError`, which lists everything that is wrong with the configuration.
    """
    fakes = backends or {}
    parts = Parts(backends=fakes, clock=clock, metrics=metrics, store=store)
    async with running(_for_test(config, fakes), parts) as app:
        await _first_answers(app)
        yield RunningGateway(app)


def _for_test(config: Config | Mapping[str, object], backends: Mapping[str, Backend]) -> Config:
    if isinstance(config, Config):
        return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **SERVER_SETTINGS))
    return from_document(
        {**config, "backends": _with_urls(config.get("backends", {}), backends)},
        environ={},
        overrides={f"server.{key}": value for key, value in SERVER_SETTINGS.items()},
    )


def _with_urls(tables: object, backends: Mapping[str, Backend]) -> object:
    """The `tables` of backends, completed so that each of `backends` has a table with a URL.

    Anything that is not a table stays as it is: reading the configuration will report it.
    """
    if not isinstance(tables, Mapping):
        return tables
    named = {name: tables.get(name, {}) for name in backends}
    return {**tables, **{n: {"url": NOWHERE, **table} for n, table in named.items() if isinstance(table, Mapping)}}


async def _first_answers(app: App) -> None:
    for name in {source.backend for source in app.supervisor.sources()}:
        await app.supervisor.poll(name)
    while app.supervisor.readiness().status == "starting":  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(CHECK_EVERY_S)
