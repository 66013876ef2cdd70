"""The composition: what a configuration comes to for the parts, and what becomes of them if one cannot be made."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tidegate import app, live_parts, parts
from tidegate.app import Parts, running
from tidegate.config import Config, from_document
from tidegate.inbound import server
from tidegate.inbound.address import bound
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.backends import opening as backends
from tidegate.outbound.store_sqlite import SqliteStore
from tidegate.plan import plan
from tidegate.testing import MemoryStore, ScriptedBackend

MAKERS = [
    (app, "plan"),
    (app, "PrometheusMetrics"),
    (app, "shown_certificate"),
    (app, "url_of"),
    (app, "opened_store"),
    (SqliteStore, "open"),
    (app, "Reloads"),
    (authentication, "made"),
    (live_parts, "new_gateway"),
    (parts, "Gateway"),
    (backends, "made"),
    (parts, "BackendPoller"),
    (live_parts, "Supervisor"),
    (live_parts, "Gate"),
    (live_parts, "Admissions"),
    (live_parts, "WebSocketServer"),
    (parts, "EventStreams"),
    (parts, "http_api"),
]
"""What `running` calls, in its order, by where it is found and its name."""


class Failed(Exception):
    pass


def fail(*_: object, **__: object) -> Any:
    raise Failed


class Closable(ScriptedBackend):
    closings = 0

    async def aclose(self) -> None:
        self.closings += 1


class Unloadable(MemoryStore):
    async def load(self) -> Any:
        raise Failed


class Uncloseable(Closable):
    async def aclose(self) -> None:
        await super().aclose()
        raise Failed


def config(state: Path, port: int) -> Config:
    tables = {"handed": {"url": "http://127.0.0.1:1"}, "made": {"url": "http://127.0.0.1:1"}}
    return from_document({"server": {"port": port, "state_dir": str(state)}, "backends": tables}, environ={})


@pytest.fixture
def port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        number: int = holder.getsockname()[1]
    return number


async def assert_all_is_free(state: Path, port: int) -> None:
    await (await SqliteStore.open(state)).aclose()
    bound("127.0.0.1", port).close()


@asynccontextmanager
async def failing() -> AsyncIterator[None]:
    raise Failed
    yield


def unserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "serve", lambda *_, **__: failing())


@pytest.mark.parametrize(("owner", "maker"), MAKERS)
async def test_a_part_that_cannot_be_made_leaves_nothing_open(
    owner: Any, maker: str, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed, store = Closable(), MemoryStore()
    with monkeypatch.context() as patched:
        patched.setattr(owner, maker, fail)
        with pytest.raises(Failed):
            async with running(config(tmp_path, port), Parts(backends={"handed": handed})):
                pass
        if owner is not SqliteStore:
            with pytest.raises(Failed):
                async with running(config(tmp_path, port), Parts(store=store)):
                    pass
            assert store.closed
    assert handed.closings == 1
    await assert_all_is_free(tmp_path, port)


@pytest.mark.parametrize("arrange", [unserved, None], ids=["listener", "beside"])
async def test_what_cannot_be_started_leaves_nothing_open(
    arrange: Callable[[pytest.MonkeyPatch], None] | None, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = Closable()
    with monkeypatch.context() as patched:
        if arrange is not None:
            arrange(patched)
        with pytest.raises(Failed):
            async with running(
                config(tmp_path, port), Parts(backends={"handed": handed}), beside=None if arrange else failing()
            ):
                pass
    assert handed.closings == 1
    await assert_all_is_free(tmp_path, port)


async def test_a_store_that_cannot_be_read_is_closed(tmp_path: Path, port: int) -> None:
    store = Unloadable()
    with pytest.raises(Failed):
        async with running(config(tmp_path, port), Parts(store=store)):
            pass
    assert store.closed
    await assert_all_is_free(tmp_path, port)


async def test_a_part_that_cannot_be_closed_keeps_none_open(tmp_path: Path, port: int) -> None:
    handed, other, store = Uncloseable(), Closable(), MemoryStore()
    async with running(config(tmp_path, port), Parts(store=store, backends={"handed": handed, "made": other})):
        pass
    assert (handed.closings, other.closings, store.closed) == (1, 1, True)
    await assert_all_is_free(tmp_path, port)


async def test_the_listener_is_given_the_time_for_a_handshake(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    serve = server.serve

    def noting(*arguments: Any, handshake_s: float, **keywords: Any) -> Any:
        given.append(handshake_s)
        return serve(*arguments, handshake_s=handshake_s, **keywords)

    monkeypatch.setattr(server, "serve", noting)
    document = {"server": {"port": port, "state_dir": str(tmp_path)}, "limits": {"handshake_s": 7.5}}
    async with running(from_document(document, environ={})):
        assert given == [7.5]
    assert plan(from_document(document, environ={})).api.body_s == 7.5


def test_every_rule_of_a_breaker_reaches_it() -> None:
    rules = {
        "failure_threshold": 7,
        "open_s": 1.5,
        "open_max_s": 99.5,
        "half_open_successes": 3,
        "heal_s": 12.5,
        "failure_rate": 0.25,
        "rate_window_s": 17.5,
        "rate_minimum_calls": 8,
    }
    document = {"backends": {"b": {"url": "http://h", "breaker": rules}}}
    made = plan(from_document(document, environ={})).backends[0].polling.breaker
    assert {name: getattr(made, name) for name in rules} == rules


async def test_the_end_of_a_gateway_closes_everything(tmp_path: Path, port: int) -> None:
    handed, unasked = Closable(), Closable()
    async with running(config(tmp_path, port), Parts(backends={"handed": handed, "unasked": unasked})):
        with pytest.raises(OSError, match="in use"):
            bound("127.0.0.1", port)
    assert (handed.closings, unasked.closings) == (1, 1)
    await assert_all_is_free(tmp_path, port)


@pytest.mark.parametrize(
    ("sources", "idle_s"),
    [
        ({"s": {}}, 10.0),
        ({"s": {"interval_s": 16.0}}, 21.0),
        ({"s": {"interval_s": 1.0, "idle_interval_s": 60.0}, "t": {"interval_s": 30.0}}, 65.0),
        ({"s": {"interval_s": 1.0}, "other": {"interval_s": 90.0, "backend": "c"}}, 6.0),
        ({"s": {"interval_s": 3600.0}}, 120.0),
        ({}, 5.0),
    ],
)
def test_a_connection_to_a_backend_is_kept_until_its_rarest_source_is_due_again(
    sources: dict[str, dict[str, object]], idle_s: float
) -> None:
    tables = {name: {"backend": "b", "method": "m"} | source for name, source in sources.items()}
    config = from_document(
        {"backends": {"b": {"url": "http://h"}, "c": {"url": "http://h"}}, "sources": tables}, environ={}
    )
    http = plan(config).backends[0].endpoint.http
    assert http is not None
    assert http.idle_s == idle_s
