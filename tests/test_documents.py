"""``/asyncapi.json`` of a whole gateway, held against what that gateway sends."""

import asyncio
import json
from typing import Any

import aiohttp
import jsonschema

from tidegate.core.topics import BUILT_IN_TYPES
from tidegate.errors import Disconnected
from tidegate.testing import ScriptedBackend, gateway

PATIENCE_S = 20.0

CONFIG = {
    "server": {"heartbeat_interval_s": 0.05, "drain_s": 0.05},
    "backends": {"engine": {"breaker": {"failure_threshold": 1}}},
    "sources": {"system.status": {"backend": "engine", "method": "system.status", "interval_s": 3600.0}},
}


async def test_everything_that_a_gateway_says_by_itself_is_as_described() -> None:
    engine = ScriptedBackend({"system.status": {"cpu_percent": 12.5}})
    async with (
        gateway(CONFIG, backends={"engine": engine}) as running,
        aiohttp.ClientSession(running.url) as session,
        session.ws_connect("/ws?types=*&since=other:1") as client,
    ):
        async with session.get("/asyncapi.json") as response:
            document = await response.json()
        messages = document["components"]["messages"]
        unseen = {"welcome", "gap", "event", *BUILT_IN_TYPES}
        engine.fail(Disconnected("the cable is out"))
        await running.poll("engine")
        draining = None
        async with asyncio.timeout(PATIENCE_S):
            while unseen:
                message: dict[str, Any] = json.loads(await client.receive_str())
                name = message["type"] if message["type"] in messages else "event"
                payload = messages[name]["payload"]
                jsonschema.validate(message, {**payload, "components": document["components"]})
                unseen.discard(name)
                if unseen == {"notification"} and draining is None:
                    draining = asyncio.create_task(running.app.drain())
        assert draining is not None
        await draining
    host = running.url.removeprefix("http://")
    assert {server["host"] for server in document["servers"].values()} == {host}
