"""Whoever does not answer as promised cannot be tested."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tidegate.verify.endpoints import GatewayApi, ProxyApi
from tidegate.verify.faultproxy import Fault, FaultProxy, control_server
from tidegate.verify.obstacles import CouldNotTest


@asynccontextmanager
async def proxy_api() -> AsyncIterator[tuple[FaultProxy, ProxyApi]]:
    async with (
        FaultProxy(upstream="http://127.0.0.1:9") as proxy,
        control_server(proxy) as url,
        aiohttp.ClientSession() as session,
    ):
        yield proxy, ProxyApi(session, url, name="the fault proxy")


async def test_faults_are_switched_on_and_off() -> None:
    async with proxy_api() as (proxy, api):
        await api.set(Fault.status(code=503, count=2))
        await api.set(Fault.down())
        assert list(proxy.faults) == [Fault.status(code=503, count=2), Fault.down()]
        assert (await api.state()).down
        await api.clear(Fault.down)
        assert list(proxy.faults) == [Fault.status(code=503, count=2)]
        await api.clear()
        assert (await api.state()).faults == []


async def test_calls_are_read_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.verify.faultproxy.control.MAX_CALLS_PER_PAGE", 2)
    async with proxy_api() as (proxy, api), aiohttp.ClientSession() as client:
        assert await api.last_call() == 0
        proxy.set(Fault.html())
        for _ in range(5):
            async with client.post(proxy.url, json={"id": 1, "method": "m"}):
                pass
        assert [call.number for call in await api.calls(after=1)] == [2, 3, 4, 5]
        assert await api.last_call() == 5
        assert await api.last_call() == 5


async def test_a_state_is_waited_for() -> None:
    async with proxy_api() as (_, api):
        assert await api.until(lambda state: not state.down, within_s=5)
        assert not await api.until(lambda state: state.held > 0, within_s=0.01)


async def test_nobody_there_could_not_test() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(CouldNotTest, match=r"the gateway at http://127\.0\.0\.1:9 does not answer"):
            await GatewayApi(session, "http://127.0.0.1:9", name="the gateway").check_health()


async def test_another_answer_could_not_test() -> None:
    async with proxy_api() as (_, api), aiohttp.ClientSession() as session:
        gateway = GatewayApi(session, api.url, name="the gateway")
        with pytest.raises(CouldNotTest, match="GET /healthz was answered with HTTP 404"):
            await gateway.check_health()
        with pytest.raises(CouldNotTest, match="GET /calls was answered with something else"):
            await gateway._read("/calls", list[int])


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/login"})

    application = web.Application()
    application.router.add_get("/{path:.*}", redirect)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        with pytest.raises(CouldNotTest, match="GET /healthz was answered with HTTP 302"):
            await GatewayApi(session, str(server.make_url("")), name="the gateway", token="t").check_health()
    assert asked == ["/healthz"]


async def test_commands_that_our_token_does_not_allow_are_done_without() -> None:
    statuses = [200, 403, 500]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=statuses.pop(0))

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        gateway = GatewayApi(session, str(server.make_url("")), name="the gateway")
        await gateway.reset("engine")
        await gateway.poll("engine")
        with pytest.raises(CouldNotTest, match=r"POST /api/v1/circuit-breaker/engine/reset was answered with HTTP 500"):
            await gateway.reset("engine")


async def test_who_never_becomes_ready_could_not_test() -> None:
    async with proxy_api() as (_, api), aiohttp.ClientSession() as session:
        with pytest.raises(CouldNotTest, match="GET /readyz was answered with HTTP 404"):
            await GatewayApi(session, api.url, name="the gateway").until_ready(within_s=0.02)
