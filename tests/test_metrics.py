"""What `/metrics` of a whole gateway shows, scraped over a socket, and how that changes with a reload."""

import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from tidegate.app import App, Parts, running
from tidegate.config import from_document
from tidegate.outbound.metrics import FAMILIES
from tidegate.testing import ScriptedBackend

BACKENDS: dict[str, Any] = {"engine": {"url": "http://engine"}, "disks": {"url": "http://disks"}}

SOURCES: dict[str, Any] = {
    "system.status": {"backend": "engine", "method": "m", "interval_s": 1.0},
    "disks.status": {"backend": "disks", "method": "n", "interval_s": 1.0, "breaker": "own"},
}

TOKENS = [
    {"token": "t-all-0123456789", "roles": ["subscriber"]},
    {"token": "t-narrow-0123456789", "roles": ["subscriber"], "types": ["system.*"]},
]

ABSENT = {
    "tidegate_certificate_expiry_timestamp_seconds": "there is no certificate",
    "tidegate_store_last_success_timestamp_seconds": "nothing is kept on disk",
    "tidegate_store_bytes": "nothing is kept on disk",
    "tidegate_history_oldest_timestamp_seconds": "the history may be empty",
    "tidegate_source_as_of_timestamp_seconds": "there may be no value yet",
}


def document(**tables: Any) -> dict[str, Any]:
    return {
        "server": {"port": 0, "state_dir": ""},
        "auth": {"mode": "token", "tokens": TOKENS},
        "backends": BACKENDS,
        "sources": SOURCES,
        **tables,
    }


@asynccontextmanager
async def gateway() -> AsyncIterator[App]:
    backends = {name: ScriptedBackend({"m": 1, "n": 2}) for name in BACKENDS}
    async with running(from_document(document(), environ={}), Parts(backends=backends)) as app:
        yield app


async def scraped(app: App, token: str = "t-all", **headers: str) -> tuple[str, Mapping[str, str]]:
    bearer = {"Authorization": f"Bearer {token}-0123456789"}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"{app.url}/metrics", headers={**bearer, "Accept-Encoding": "identity", **headers}) as response,
    ):
        assert response.status == 200
        body = await response.read()
        compressed = response.headers.get("Content-Encoding") == "gzip"
        return (gzip.decompress(body) if compressed else body).decode(), response.headers


async def test_every_metric_that_is_declared_is_shown() -> None:
    async with gateway() as app:
        text, headers = await scraped(app)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    shown = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    missing = {
        family.name
        for family in FAMILIES
        if family.name not in shown and f"{family.name}_count" not in shown and family.name not in ABSENT
    }
    assert missing == set()


async def test_openmetrics_has_the_same_series_and_takes_less_room() -> None:
    async with gateway() as app:
        plain, _ = await scraped(app)
        text, headers = await scraped(app, Accept="application/openmetrics-text", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert int(headers["Content-Length"]) < len(text) / 4
    assert list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]

    def series(of: str) -> set[str]:
        return {line.rpartition(" ")[0] for line in of.splitlines() if not line.startswith("#")}

    as_of = "tidegate_source_as_of"
    assert {each for each in series(plain) if as_of not in each} == {each for each in series(text) if as_of not in each}


async def test_a_narrow_token_sees_what_it_covers_and_no_name_of_anything_else() -> None:
    async with gateway() as app:
        text, _ = await scraped(app, "t-narrow")
    types, backends, breakers = set(), set(), set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            types.add(sample.labels.get("type"))
            backends.add(sample.labels.get("backend"))
            breakers.add(sample.labels.get("breaker"))
    assert (types, backends, breakers) == ({None, "system.status"}, {None, "engine"}, {None, "engine"})
    assert "disks" not in text


async def test_after_a_reload_what_is_gone_is_gone_and_what_is_new_is_there_at_once() -> None:
    async with gateway() as app:
        before, _ = await scraped(app)
        assert 'type="disks.status"' in before
        new = {
            "system.status": SOURCES["system.status"],
            "net.status": {"backend": "engine", "method": "m", "breaker": "own"},
        }
        backends = {"engine": BACKENDS["engine"]}
        await app.reload(from_document(document(sources=new, backends=backends), environ={}))
        for _ in range(2):
            text, _ = await scraped(app)
            assert "disks" not in text
        assert 'tidegate_polls_total{type="net.status",backend="engine",outcome="ok"}' in text
        assert 'tidegate_source_stale_seconds_total{type="net.status"}' in text
        assert 'tidegate_breaker_state{breaker="engine/net.status",state="closed"} 1' in text


@pytest.mark.parametrize("action", ["force-open", "force-closed"])
async def test_a_command_shows(action: str) -> None:
    async with gateway() as app:
        await app.supervisor.command("engine", action, by="test")
        text, _ = await scraped(app)
        assert 'tidegate_breaker_forced{breaker="engine"} 1' in text
        assert f'tidegate_source_stale{{type="system.status"}} {int(action == "force-open")}' in text or (
            action == "force-closed"
        )
