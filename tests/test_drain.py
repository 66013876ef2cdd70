"""How a gateway lets go: when nobody is connected, while a request is under way, and what others are told meanwhile."""

import asyncio
from contextlib import AsyncExitStack

from serving import Answer, RawClient, read_answer, request
from websockets.asyncio.client import connect

from tidegate.testing import RunningGateway, gateway

CONFIG = {"server": {"drain_s": 3600.0}}
PATIENCE_S = 20.0


async def ask(running: RunningGateway, path: str) -> Answer:
    client = await RawClient.open(int(running.url.rpartition(":")[2]))
    try:
        client.writer.write(request("GET", path, host="127.0.0.1"))
        return read_answer(await client.rest())
    finally:
        await client.close()


async def test_with_nobody_connected_it_ends_at_once() -> None:
    async with asyncio.timeout(PATIENCE_S), gateway(CONFIG) as running:
        await running.app.drain()
        assert (await ask(running, "/readyz")).json == {"status": "draining"}


async def test_it_ends_when_the_last_stream_has_and_tells_others_to_wait_until_then() -> None:
    async with asyncio.timeout(PATIENCE_S), gateway(CONFIG) as running:
        url = f"{running.url.replace('http', 'ws', 1)}/ws?types="
        async with connect(url, proxy=None), connect(url, proxy=None):
            draining = asyncio.create_task(running.app.drain())
            await asyncio.sleep(0)
            for path in ("/readyz", "/api/v1/events"):
                answer = await ask(running, path)
                assert (answer.status, answer.headers["retry-after"]) == (503, "3600")
            assert (await ask(running, "/healthz")).status == 200
            assert not draining.done()
        await draining


async def test_a_request_under_way_is_finished_first() -> None:
    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
        running = await stack.enter_async_context(gateway(CONFIG))
        whole = request("POST", "/api/v1/events", b'{"type":"app.a","data":1}', host="127.0.0.1")
        client = await RawClient.open(int(running.url.rpartition(":")[2]))
        client.writer.write(whole[:-5])
        await ask(running, "/healthz")
        await running.app.drain()
        ending = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0.01)
        client.writer.write(whole[-5:])
        answer = read_answer(await client.rest())
        await client.close()
        await ending
    assert (answer.status, answer.json["seq"]) == (202, 1)
