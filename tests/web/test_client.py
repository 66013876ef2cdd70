"""The JavaScript client against a real gateway, over a network that fails in every way.

Somebody publishes numbered entries all the time. After each fault: no event came twice, none is missing unless a gap
stands where it is missing, and the client's values are those of `/api/v1/snapshot`.
"""

import asyncio
import contextlib
import itertools
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from js_client import JsClient, Line, js_client, needs_ws, twice
from mortal_gateway import MortalGateway, mortal
from steered_backend import counting, steered

from tidegate.verify.faultproxy import AnyFault, Fault, FaultProxy

pytestmark = [pytest.mark.real, needs_ws]

HEARTBEAT_S = 0.2
PUBLISH_EVERY_S = 0.05
OWN_TYPES = {"heartbeat", "notification", "rpc_error", "circuit_breaker.state", "source.freshness"}
NO_VALUES = OWN_TYPES | {"ledger.entry", "big"}
"""Not compared: what the gateway says of itself, and what is not retained."""
SECRET = "not-much-of-a-secret-but-of-32-bytes"
LEEWAY_S = 30
"""What the gateway's clock may differ from that of whoever issues tokens."""


def document(backend_url: str, **server: Any) -> dict[str, Any]:
    return {
        "server": {"heartbeat_interval_s": HEARTBEAT_S, **server},
        "backends": {"plant": {"url": backend_url, "protocol": "http"}},
        "sources": {
            "plant.count": {"backend": "plant", "method": "/count", "interval_s": 0.25},
            "plant.name": {"backend": "plant", "method": "/name", "interval_s": 0.25},
            "plant.broken": {"backend": "plant", "method": "/nothing", "interval_s": 0.5, "breaker": "own"},
        },
    }


class Ledger:
    """Publishes entries 1, 2, 3, … to a gateway as long as it is open. `taken` are those that it has acknowledged."""

    def __init__(self, gateway: MortalGateway) -> None:
        self.taken: list[int] = []
        self._gateway = gateway

    async def run(self) -> None:
        for number in itertools.count(1):
            events = [
                {"type": "ledger.entry", "data": number},
                {"type": "ledger.total", "key": str(number % 5), "data": number, "retain": True},
            ]
            with contextlib.suppress(OSError, urllib.error.URLError):
                await asyncio.to_thread(self._post, events)
                self.taken.append(number)
            await asyncio.sleep(PUBLISH_EVERY_S)

    def _post(self, events: list[dict[str, Any]]) -> None:
        headers = {"Content-Type": "application/json"}
        url = f"{self._gateway.url}/api/v1/events"
        request = urllib.request.Request(url, json.dumps(events).encode(), headers)
        urllib.request.urlopen(request, timeout=5).close()


@asynccontextmanager
async def writing(gateway: MortalGateway) -> AsyncIterator[Ledger]:
    ledger = Ledger(gateway)
    task = asyncio.create_task(ledger.run())
    try:
        yield ledger
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def snapshot(gateway: MortalGateway) -> dict[tuple[str, str | None], Any]:
    with urllib.request.urlopen(f"{gateway.url}/api/v1/snapshot", timeout=5) as answer:
        events = json.load(answer)["events"]
    named = [event for event in events if event["type"] not in NO_VALUES]
    return {(event["type"], event.get("key")): facts(event) for event in named}


def facts(value: Line) -> tuple[Any, ...]:
    return (value["seq"], value["data"], value.get("stale"))


async def agrees(client: JsClient, gateway: MortalGateway) -> None:
    """Wait until its values are the gateway's; both change all the time, so ask until they are compared in between."""
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        theirs = await asyncio.to_thread(snapshot, gateway)
        values = [value for value in await client.values() if value["type"] not in NO_VALUES]
        ours = {(value["type"], value["key"]): facts(value) for value in values if value["seq"] is not None}
        if ours == theirs:
            break
        assert asyncio.get_running_loop().time() < deadline, f"{client.name}: {ours} but {theirs}"[:5000]
        await asyncio.sleep(0.02)
    states = {value["type"]: value["state"] for value in values}
    assert states["plant.count"] == "fresh", client.name
    assert states["plant.broken"] == "never", (client.name, values, client.told("status")[-1])


async def has_heard(client: JsClient, number: int) -> None:
    """Wait until that entry, or a later one, has come."""

    def heard() -> bool:
        return any(event["type"] == "ledger.entry" and event["data"] >= number for event in client.told("event")[-200:])

    await client.until(heard, f"never heard of entry {number}")


def missing(client: JsClient, taken: list[int]) -> list[int]:
    """The entries that never came, although no gap stands where they are missing."""
    found: list[int] = []
    entries = set(taken)
    newest = None
    has_gap = False
    for line in client.lines:
        if "gap" in line:
            has_gap = True
        event = line.get("event", {})
        if event.get("type") != "ledger.entry":
            continue
        if newest is not None and not has_gap:
            found += [number for number in range(newest + 1, event["data"]) if number in entries]
        newest, has_gap = event["data"], False
    return found


async def proves_whole(client: JsClient, gateway: MortalGateway, ledger: Ledger) -> None:
    await has_heard(client, ledger.taken[-1] + 5)
    await agrees(client, gateway)
    assert twice(client.told("event")) == [], client.name
    assert missing(client, ledger.taken) == [], client.name


async def gets_ready(client: JsClient) -> None:
    await client.until(lambda: client.told("ready"), "is never ready")
    await has_heard(client, 1)


TRANSPORTS = ("websocket", "sse")
FAULTS: dict[str, AnyFault] = {"cut": Fault.down(), "reset": Fault.reset(), "stalled": Fault.black_hole()}


async def suffers(transport: str, fault: str, gateway: MortalGateway, ledger: Ledger) -> None:
    async with (
        FaultProxy(upstream=gateway.url) as proxy,
        js_client(proxy.url, transport=transport) as client,
    ):
        client.name = f"{transport}, {fault}"
        await gets_ready(client)
        for _ in range(1 if fault == "stalled" else 2):  # that one takes 10 s
            before = len(client.lines)
            proxy.set(FAULTS[fault])
            await client.is_now("quiet" if fault == "stalled" else "waiting", after=before)
            if fault == "stalled":
                values = await client.values()
                assert {value["state"] for value in values} == {"unvouched"}, client.name
            proxy.clear()
            await client.is_now("live", after=before)
            await proves_whole(client, gateway, ledger)
        assert client.told("gap") == [], client.name
        assert client.told("status")[-1]["transport"] == transport


async def test_after_a_connection_was_cut_reset_or_stalled_nothing_is_missing() -> None:
    async with (
        steered({"/count": counting(), "/name": "plant"}) as backend,
        mortal(document(backend.url)) as gateway,
        writing(gateway) as ledger,
        asyncio.TaskGroup() as group,
    ):
        for transport in TRANSPORTS:
            for fault in FAULTS:
                group.create_task(suffers(transport, fault, gateway, ledger))


@asynccontextmanager
async def followers(gateway: MortalGateway, **options: Any) -> AsyncIterator[list[JsClient]]:
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(js_client(gateway.url, transport=transport, **options))
            for transport in TRANSPORTS
        ]
        for client in clients:
            await gets_ready(client)
        yield clients


async def test_after_a_restart_or_a_drain_a_gap_names_what_is_missing_and_the_values_are_those_of_now() -> None:
    async with (
        steered({"/count": counting(), "/name": "plant"}) as backend,
        mortal(document(backend.url, drain_s=1.0)) as gateway,
        writing(gateway) as ledger,
        followers(gateway) as clients,
    ):
        before = [len(client.lines) for client in clients]
        gateway.kill()
        for client, lines in zip(clients, before, strict=True):
            await client.is_now("waiting", after=lines)
        await gateway.start()
        for client, lines in zip(clients, before, strict=True):
            await client.is_now("live", after=lines)
            await proves_whole(client, gateway, ledger)
            assert [gap["reason"] for gap in client.told("gap")] == ["epoch_changed"], client.name

        before = [len(client.lines) for client in clients]
        gateway.terminate()
        await asyncio.to_thread(gateway.program.wait)
        await gateway.start()
        for client, lines in zip(clients, before, strict=True):
            await client.is_now("live", after=lines)
            waits_as_told(client.lines[lines:], client.name)
            await proves_whole(client, gateway, ledger)
            assert [gap["reason"] for gap in client.told("gap")] == ["epoch_changed"] * 2, client.name


def waits_as_told(lines: list[Line], name: str) -> None:
    """It tried again after the time that the gateway had named for it, and not before."""
    [told] = [line for line in lines if line.get("event", {}).get("data", {}) and is_drain(line["event"])]
    tried = next(line for line in lines if line.get("status", {}).get("state") == "connecting")
    waited_ms = tried["at"] - told["at"]
    assert waited_ms >= told["event"]["data"]["retry_after_ms"] - 50, name


def is_drain(event: Line) -> bool:
    return bool(event["type"] == "notification" and event["data"].get("code") == "DRAINING")


async def test_an_expired_token_is_replaced_and_nothing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    auth = {"mode": "jwt", "jwt": {"algorithms": ["HS256"], "secret_file": str(tmp_path / "secret")}}
    token = {"secret": SECRET, "lives": [2 - LEEWAY_S, 3600]}
    async with (
        steered({"/count": counting(), "/name": "plant"}) as backend,
        mortal({**document(backend.url), "auth": auth}) as gateway,
        followers_of_a_closed_house(gateway, token) as clients,
    ):
        for client in clients:
            await client.until(partial(is_expired, client), "asked for no other token")
            await client.until(partial(is_live, client), "is not live again")
            first = counted(client)[-1]
            await client.until(partial(has_counted_to, client, first + 2), "is not back")
            numbers = counted(client)
            assert numbers == list(range(numbers[0], numbers[-1] + 1)), client.name
            assert twice(client.told("event")) == [], client.name
            assert client.told("gap") == [], client.name
            assert "refused" not in {status["state"] for status in client.told("status")}


def is_expired(client: JsClient) -> bool:
    return "expired" in client.told("asked")


def is_live(client: JsClient) -> bool:
    return client.state == "live"


def counted(client: JsClient) -> list[int]:
    return [int(event["data"]) for event in client.told("event") if event["type"] == "plant.count"]


def has_counted_to(client: JsClient, number: int) -> bool:
    return counted(client)[-1] >= number


@asynccontextmanager
async def followers_of_a_closed_house(gateway: MortalGateway, token: Any) -> AsyncIterator[list[JsClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(js_client(gateway.url, transport=transport, token=token))
            for transport in TRANSPORTS
        ]


async def test_where_no_websocket_gets_through_it_is_an_event_stream_and_a_host_that_is_not_allowed_is_told() -> None:
    async with (
        steered({"/count": counting(), "/name": "plant"}) as backend,
        mortal(document(backend.url)) as gateway,
        writing(gateway) as ledger,
        FaultProxy(upstream=gateway.url) as proxy,
        FaultProxy(upstream=gateway.url, listen=("127.0.0.2", 0)) as stranger,
        js_client(stranger.url) as refused,
    ):
        proxy.set(Fault.status(code=502, methods=("/ws",)))
        async with js_client(proxy.url) as client:
            await gets_ready(client)
            await proves_whole(client, gateway, ledger)
            assert client.told("status")[-1]["transport"] == "sse"
        reason = (await refused.until(lambda: refused.told("refused"), "is not refused"))[0]
        assert "allowed_hosts" in reason, reason
        assert refused.told("status")[-1]["code"] == 421


async def test_who_reads_too_slowly_is_cut_off_and_told_what_is_missing() -> None:
    async with (
        steered({"/count": counting(), "/name": "plant"}) as backend,
        mortal({**document(backend.url), "limits": SMALL}) as gateway,
        writing(gateway) as ledger,
        js_client(gateway.url, transport="websocket") as client,
    ):
        await gets_ready(client)
        before = len(client.lines)
        await client.tell("stuck 3000")
        await asyncio.to_thread(floods, gateway)
        await client.is_now("waiting", after=before)
        await client.is_now("live", after=before)
        await proves_whole(client, gateway, ledger)


SMALL = {
    "send_buffer_soft_bytes": 65_536,
    "send_buffer_hard_bytes": 1 << 18,
    "slow_grace_s": 0.5,
    "publishes_per_s": 1e6,
    "publishes_burst": 1_000_000,
}


def floods(gateway: MortalGateway) -> None:
    """More than all buffers between the gateway and somebody who does not read can hold."""
    batch = json.dumps([{"type": "big", "data": "x" * 50_000} for _ in range(20)]).encode()
    headers = {"Content-Type": "application/json"}
    for _ in range(16):
        request = urllib.request.Request(f"{gateway.url}/api/v1/events", batch, headers)
        urllib.request.urlopen(request, timeout=20).close()
