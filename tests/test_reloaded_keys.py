"""Each key of a configuration, changed alone, reaches a running gateway, or is named as one that needs a restart.

What a gateway holds after a reload has to be what another one holds that was started with the new configuration.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import certificates
import pytest
from plugins import EchoPlugin, install
from tests.test_configuration_keys import KEYS, LEAVES, document, in_the_first

from tidegate import reloading
from tidegate.app import App, Parts, running
from tidegate.config import Config, from_document
from tidegate.inbound.http_api import publishing, services
from tidegate.inbound.sse import EventStreams
from tidegate.outbound.auth import OpenAuthenticator
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.backends import opening as backends
from tidegate.outbound.backends.http_backend import HttpBackend
from tidegate.runtime.access import Gate
from tidegate.runtime.limited_log import Observe
from tidegate.testing import MemoryStore

NEEDS_RESTART = {"server.host", "server.port", "server.state_dir", "server.root_path"}

AT_TLS = {"limits.handshake_s": ("limits.handshake_s",)}
"""Keys that reach everything but the handshake of TLS, which `BASE` has."""


class Authenticator(OpenAuthenticator):
    def __init__(self, given: authentication.Authentication, *, observe: Observe) -> None:
        self.given = given

    async def has_keys(self) -> None:
        pass


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files that configurations name are: each is a certificate with its key."""
    made = tmp_path_factory.mktemp("files")
    pem = certificates.written_to(tmp_path_factory.mktemp("made")).server.read_bytes()
    for name in ("old-1", "old-2", "new"):
        (made / name).write_bytes(pem)
    return made


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"echo": EchoPlugin})
    monkeypatch.setattr(authentication, "made", Authenticator)
    monkeypatch.setattr(reloading, "startup_problems", lambda _: [])
    made = backends.made

    def noting(endpoint: backends.BackendEndpoint, clock: Any) -> Any:
        backend = made(endpoint, clock)
        ENDPOINTS[id(backend)] = endpoint
        return backend

    monkeypatch.setattr(backends, "made", noting)


ENDPOINTS: dict[int, backends.BackendEndpoint] = {}
"""Of what each backend was made, by its identity."""


def read(changes: Mapping[str, Any], directory: Path) -> Config:
    return from_document(document({"server.port": 0, **changes}), environ={}, directory=directory)


@asynccontextmanager
async def started(config: Config) -> AsyncIterator[App]:
    async with running(config, Parts(store=MemoryStore())) as app:
        yield app


def held(app: App) -> dict[str, object]:
    """What the parts of `app` go by."""
    live = app.reloads._parts
    assert live is not None
    shared, routes = live.serving._shared, live.serving._shared.handlers._app
    api: services.Services = routes._inside.state[services.SERVICES]  # type: ignore[attr-defined]
    publish, streams = api.publish, api.open_stream.__self__  # type: ignore[attr-defined]
    assert isinstance(publish, publishing.PublishEndpoint)
    assert isinstance(streams, EventStreams)
    assert live.ground.certificate is not None
    authenticator: Any = live.gateway.authentication._authenticator
    return {
        "gateway": live.gateway.options,
        "gate": rules(live.admissions.gate),
        "websocket": live.websocket._options,
        "limits": (shared.body_bytes, shared.slow_grace_s, shared.heads.after_s),
        "api": (api.options, publish._options, streams.soft_bytes),
        "certificate": live.ground.certificate.loaded.files,
        "authenticator": authenticator.given,
        "pollers": {name: poller._plan for name, poller in live.supervisor._pollers.items()},
        "backends": {name: endpoint(backend) for name, backend in live.backends.items()},
        "asked": {name: endpoint(poller._backend) for name, poller in live.supervisor._pollers.items()},
        "metrics": live.ground.metrics._counts._known.__dict__,  # type: ignore[attr-defined]
        "plan": live.plan,
    }


def rules(gate: Gate) -> dict[str, object]:
    return {name: value for name, value in vars(gate).items() if name != "_authenticator"}


def endpoint(backend: Any) -> object:
    told = ENDPOINTS[id(backend)]
    idle_s = backend._client._pool._idle_s if isinstance(backend, HttpBackend) else None
    return (backends._with_options(told, idle_s=0.0), idle_s)


@pytest.mark.parametrize("key", LEAVES)
async def test_a_reload_comes_to_the_same_as_a_restart(key: str, directory: Path) -> None:
    value, _, given = KEYS[key]
    base = read(given, directory)
    wanted = read({**given, in_the_first(key): value}, directory)
    async with started(base) as app:
        before = held(app)
        answer = await app.reload(wanted)
        after = held(app)
    if key in NEEDS_RESTART:
        assert answer.needs_restart == (key,)
        assert after == before
        return
    assert answer.needs_restart == AT_TLS.get(key, ())
    async with started(wanted) as app:
        assert after == held(app)
    assert (after == before) == (key == "server.allow_no_sources")
