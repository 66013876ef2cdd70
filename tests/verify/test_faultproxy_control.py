"""The control API and the program, as a script sees them. No upstream: the answers are made up."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tidegate.verify.faultproxy import FAULTS, Fault, FaultProxy, control_server, run

UPSTREAM = "http://127.0.0.1:9"


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async with FaultProxy(upstream=UPSTREAM) as proxy:
        yield proxy


@pytest.fixture
async def api(proxy: FaultProxy) -> AsyncIterator[aiohttp.ClientSession]:
    async with control_server(proxy) as url, aiohttp.ClientSession(url) as session:
        yield session


async def answer(api: aiohttp.ClientSession, method: str, path: str, body: object = None) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    async with api.request(method, path, data=data) as response:
        text = await response.text()
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
        return response.status, json.loads(text) if text else None


async def call(proxy: FaultProxy, api: aiohttp.ClientSession) -> int:
    async with api.post(f"{proxy.url}/rpc?token=secret", json={"id": 1, "method": "system.status"}) as response:
        return response.status


async def test_faults_are_set_listed_and_cleared(proxy: FaultProxy, api: aiohttp.ClientSession) -> None:
    latency = {"name": "latency", "delay_s": 0.5, "jitter_s": 0.0, "probability": 0.25, "count": None, "methods": []}
    assert await answer(api, "PUT", "/faults/latency", {"delay_s": 0.5, "probability": 0.25}) == (200, latency)
    assert await answer(api, "PUT", "/faults/status", {"code": 503, "count": 2}) == (
        200,
        {"name": "status", "code": 503, "probability": 1.0, "count": 2, "methods": []},
    )
    assert (await answer(api, "PUT", "/faults/html"))[0] == 200
    assert [fault["name"] for fault in (await answer(api, "GET", "/faults"))[1]["active"]] == [
        "latency",
        "status",
        "html",
    ]
    assert await answer(api, "DELETE", "/faults/html") == (204, None)
    assert list(proxy.faults) == [Fault.latency(delay_s=0.5, probability=0.25), Fault.status(503, count=2)]
    assert await answer(api, "DELETE", "/faults") == (204, None)
    assert not proxy.faults


async def test_every_fault_is_listed_with_its_parameters_and_can_be_set(
    proxy: FaultProxy, api: aiohttp.ClientSession
) -> None:
    known = (await answer(api, "GET", "/faults"))[1]["known"]
    assert [fault["name"] for fault in known] == list(FAULTS)
    for fault in known:
        status, now = await answer(api, "PUT", f"/faults/{fault['name']}", fault["parameters"])
        assert (status, now) == (200, {"name": fault["name"], **fault["parameters"]})
    assert len(proxy.faults) == len(FAULTS)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("PUT", "/faults/fire", {}, 404, "expected a fault (bandwidth,"),
        ("DELETE", "/faults/fire", None, 404, "expected a fault (bandwidth,"),
        ("PUT", "/faults/latency", {"delay_s": -1}, 400, "$.delay_s"),
        ("PUT", "/faults/latency", {"delay": 1}, 400, "unknown field"),
        ("PUT", "/faults/down", {"count": 1}, 400, "unknown field"),
        ("PUT", "/faults/latency", [], 400, "Expected `object`"),
        ("PUT", "/faults/latency", b"{", 400, "truncated"),
        ("PUT", "/faults/latency", b'"\xff"', 400, ""),
        ("GET", "/calls?after=x", None, 400, "after: expected a whole number, got 'x'"),
        ("POST", "/release?count=-1", None, 400, "count: expected a whole number, got '-1'"),
        ("GET", "/nothing", None, 404, "Not Found"),
        ("PATCH", "/faults", None, 405, "Method Not Allowed"),
    ],
)
async def test_problems(
    api: aiohttp.ClientSession, method: str, path: str, body: object, status: int, detail: str
) -> None:
    got, problem = await answer(api, method, path, body)
    assert (got, problem["status"]) == (status, status)
    assert detail in problem["detail"]
    assert problem["title"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "127.0.0.1", "127.0.0.1:{port}", "[::1]:{port}"])
@pytest.mark.parametrize("origin", [None, "http://{host}"])
async def test_this_machine_may_steer_it(api: aiohttp.ClientSession, host: str, origin: str | None) -> None:
    host = host.format(port=5)
    headers = {"Host": host} | ({"Origin": origin.format(host=host)} if origin else {})
    async with api.post("/release", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", "localhost.", "", "[::1", "::1"]
)
async def test_a_host_of_elsewhere_is_refused_on_every_route(
    proxy: FaultProxy, api: aiohttp.ClientSession, host: str
) -> None:
    for method, path in (("GET", "/state"), ("PUT", "/faults/down"), ("POST", "/release"), ("GET", "/nowhere")):
        async with api.request(method, path, headers={"Host": host}) as response:
            assert (response.status, response.content_type) == (421, "application/problem+json")
    assert not proxy.is_down


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost", "https://127.0.0.1:5", "http://127.0.0.1:6"]
)
async def test_a_page_of_elsewhere_is_refused(proxy: FaultProxy, api: aiohttp.ClientSession, origin: str) -> None:
    headers = {"Host": "127.0.0.1:5", "Origin": origin}
    for method, path in (("POST", "/release"), ("PUT", "/faults/down"), ("OPTIONS", "/faults/down")):
        async with api.request(method, path, headers=headers) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Origin" not in response.headers
    assert not proxy.is_down


async def test_the_address_of_the_connection_may_be_asked_for(proxy: FaultProxy) -> None:
    async with control_server(proxy, listen=("0.0.0.0", 0)) as url, aiohttp.ClientSession() as session:
        port = url.rpartition(":")[2]
        async with session.get(f"http://127.0.0.2:{port}/state") as response:
            assert response.status == 200
        async with session.get(f"http://127.0.0.2:{port}/state", headers={"Host": "127.0.0.3"}) as response:
            assert response.status == 421


async def test_calls_are_paged_and_forgotten(proxy: FaultProxy, api: aiohttp.ClientSession) -> None:
    proxy.set(Fault.status(503))
    for _ in range(3):
        assert await call(proxy, api) == 503
    _, page = await answer(api, "GET", "/calls?after=1&limit=1")
    assert (page["total"], page["concurrent"], page["max_concurrent"]) == (3, 0, 1)
    (record,) = page["calls"]
    assert record["came_mono"] <= record["ended_mono"]
    assert {key: record[key] for key in ("number", "http_method", "path", "methods", "how", "status", "faults")} == {
        "number": 2,
        "http_method": "POST",
        "path": "/rpc",
        "methods": ["system.status"],
        "how": "answered",
        "status": 503,
        "faults": ["status"],
    }
    assert len((await answer(api, "GET", "/calls"))[1]["calls"]) == 3
    assert await answer(api, "DELETE", "/calls") == (204, None)
    assert (await answer(api, "GET", "/calls"))[1] == {"total": 0, "concurrent": 0, "max_concurrent": 0, "calls": []}


async def test_state(proxy: FaultProxy, api: aiohttp.ClientSession) -> None:
    proxy.set(Fault.down())
    assert await answer(api, "GET", "/state") == (
        200,
        {
            "url": proxy.url,
            "upstream": UPSTREAM,
            "down": True,
            "connections": 0,
            "held": 0,
            "total": 0,
            "concurrent": 0,
            "max_concurrent": 0,
            "faults": [{"name": "down"}],
        },
    )


async def test_held_answers_are_released(proxy: FaultProxy, api: aiohttp.ClientSession) -> None:
    proxy.set(Fault.late())
    proxy.set(Fault.status(500))
    for path, released in (("/release", 2), ("/release?count=1", 1)):
        async with aiohttp.ClientSession() as one, aiohttp.ClientSession() as two:
            calls = [asyncio.create_task(call(proxy, session)) for session in (one, two)]
            await proxy.until(lambda p: p.held == 2)
            assert await answer(api, "POST", path) == (200, {"released": released})
            proxy.release()
            assert await asyncio.gather(*calls) == [500, 500]


@pytest.mark.parametrize(
    "arguments",
    [
        ("127.0.0.1", UPSTREAM, "127.0.0.1:0"),
        ("127.0.0.1:0", "ftp://x", "127.0.0.1:0"),
        ("127.0.0.1:0", UPSTREAM, ":0"),
        ("127.0.0.1:0", UPSTREAM, "127.0.0.1:99999"),
    ],
)
def test_arguments_that_make_no_sense(arguments: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "expected an " in capsys.readouterr().err


@pytest.mark.real
async def test_a_taken_address_is_exit_code_1(proxy: FaultProxy) -> None:
    taken = f"127.0.0.1:{proxy.port}"
    for listen, control in ((taken, "127.0.0.1:0"), ("127.0.0.1:0", taken)):
        program = await asyncio.create_subprocess_exec(*_program(listen, control), stderr=subprocess.PIPE)
        _, said = await program.communicate()
        assert (program.returncode, b"in use" in said) == (1, True)


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_program_runs_until_a_signal(number: signal.Signals) -> None:
    program = await asyncio.create_subprocess_exec(*_program("127.0.0.1:0", "127.0.0.1:0"), stdout=subprocess.PIPE)
    assert program.stdout is not None
    urls = json.loads(await program.stdout.readline())
    async with aiohttp.ClientSession() as session:
        async with session.put(urls["control"] + "/faults/status", json={"code": 502}) as response:
            assert response.status == 200
        async with session.get(urls["url"]) as response:
            assert response.status == 502
    program.send_signal(number)
    assert await program.wait() == 0


def _program(listen: str, control: str) -> list[str]:
    code = (
        f"import sys; from tidegate.verify.faultproxy import run; sys.exit(run({listen!r}, {UPSTREAM!r}, {control!r}))"
    )
    return [sys.executable, "-c", code]
