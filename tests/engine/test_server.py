import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Any

import aiohttp
import psutil
import pytest
import structlog
from blockbuster import blockbuster_ctx
from structlog.testing import capture_logs

from tidegate.engine.server import MAX_BODY_BYTES, Options, _url, main, serve
from tidegate.loopback import is_loopback

CALL = {"jsonrpc": "2.0", "id": 1, "method": "system.status"}
JSON = {"Content-Type": "application/json"}
ENGINE = [sys.executable, "-m", "tidegate.engine", "--port", "0", "--state-dir", "", "--agents", "1"]
ALONE = Options(agents=0)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of an engine of its own."""
    async with serve(port=0, options=ALONE) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[str]]:
    """An engine as a supervised process."""
    with subprocess.Popen(
        [*ENGINE, "--stop-with-parent"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


async def call(http: aiohttp.ClientSession, request: object) -> Any:
    async with http.post("/rpc", json=request) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return await response.json()


def url_of(process: subprocess.Popen[str]) -> str:
    """Where `process` listens, from its one line of log."""
    assert process.stderr is not None
    line = json.loads(process.stderr.readline())
    assert line["level"] == "info"
    found = re.fullmatch(r"engine listening on (http://127\.0\.0\.1:[1-9]\d*/rpc)", line["event"])
    assert found, line
    return found[1]


async def test_health(http: aiohttp.ClientSession) -> None:
    async with http.get("/healthz") as response:
        assert response.status == 200


async def test_every_method_answers(http: aiohttp.ClientSession) -> None:
    system = await call(http, CALL)
    assert system["result"]["memory"]["total_bytes"] == psutil.virtual_memory().total
    storage = await call(http, CALL | {"method": "storage.status"})
    assert storage["result"]["volumes"]
    discovered = await call(http, CALL | {"method": "rpc.discover"})
    assert {method["name"] for method in discovered["result"]["methods"]} == {
        "system.status",
        "storage.status",
        "compression.submit",
        "compression.list",
        "compression.get",
        "compression.cancel",
        "agents.list",
    }


async def test_a_batch_is_one_answer(http: aiohttp.ClientSession) -> None:
    answers = await call(http, [CALL, CALL | {"id": 2, "method": "storage.status"}, CALL | {"id": 3, "method": "x"}])
    assert [(answer["id"], "result" in answer) for answer in answers] == [(1, True), (2, True), (3, False)]


async def test_a_notification_has_no_content(http: aiohttp.ClientSession) -> None:
    async with http.post("/rpc", json={"jsonrpc": "2.0", "method": "system.status"}) as response:
        assert (response.status, await response.read()) == (204, b"")


async def test_deep_json_harms_nobody(http: aiohttp.ClientSession) -> None:
    async with http.post("/rpc", data=b"[" * 10_000, headers=JSON) as response:
        assert (await response.json())["error"]["code"] == -32700
    assert "result" in await call(http, CALL)


async def test_a_body_has_a_largest_size(http: aiohttp.ClientSession) -> None:
    body = json.dumps(CALL).encode().ljust(MAX_BODY_BYTES)
    async with http.post("/rpc", data=BytesIO(body), headers=JSON) as response:
        assert response.status == 200
    async with http.post("/rpc", data=BytesIO(body + b" "), headers=JSON) as response:
        assert response.status == 413


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Content-Type": "text/plain"}, 415),
        ("POST", JSON | {"Origin": "http://127.0.0.1:12081"}, 403),
        ("POST", {"Content-Type": "application/json-rpc; charset=utf-8"}, 200),
        ("GET", {}, 405),
    ],
)
async def test_the_rest_of_http(http: aiohttp.ClientSession, method: str, headers: dict[str, str], status: int) -> None:
    async with http.request(method, "/rpc", data=json.dumps(CALL), headers=headers) as response:
        assert response.status == status


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(["127.0.0.1", "::1"], True), (["0.0.0.0"], False), (["::1", "::"], False), (["192.0.2.1"], False)],
)
async def test_an_engine_that_others_can_reach_says_so(
    addresses: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(map(is_loopback, addresses)) is expected
    monkeypatch.setattr("tidegate.engine.server.is_loopback", lambda _: expected)
    with capture_logs() as lines:
        async with serve(port=0, options=ALONE):
            pass
    said = [line["event"].partition(":")[0] for line in lines]
    assert said == ([] if expected else ["engine asks for no token"])


async def test_nothing_blocks_the_event_loop() -> None:
    with blockbuster_ctx("tidegate.engine"):
        async with serve(port=0, options=ALONE) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            assert all("result" in answer for answer in await call(http, [CALL, CALL | {"method": "storage.status"}]))


async def test_serving_ends_with_the_context() -> None:
    async with serve(port=0, options=ALONE) as port:
        pass
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(f"http://127.0.0.1:{port}/healthz")


async def test_a_port_in_use_is_an_error() -> None:
    async with serve(port=0, options=ALONE) as port:
        with pytest.raises(OSError, match="address already in use"):
            await serve(port=port, options=ALONE).__aenter__()


@pytest.mark.parametrize(
    ("address", "reason"),
    [({"host": "192.0.2.1", "port": 12081}, "cannot assign"), ({"port": 99_999}, "0-65535")],
)
def test_an_address_that_cannot_be_bound_ends_the_program(address: dict[str, Any], reason: str) -> None:
    try:
        with structlog.testing.capture_logs() as logs:
            assert main(**address) == 1
    finally:
        structlog.reset_defaults()
    [line] = logs
    assert line["log_level"] == "error"
    assert line["event"].startswith("engine cannot listen on http://")
    assert reason in line["event"]


def test_an_ipv6_address_is_bracketed_in_the_url() -> None:
    assert _url("::1", 1) == "http://[::1]:1/rpc"
    assert _url("localhost", 1) == "http://localhost:1/rpc"


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_program_cleanly(engine: subprocess.Popen[str], number: signal.Signals) -> None:
    async with aiohttp.ClientSession() as http, http.post(url_of(engine), json=CALL) as response:
        assert (await response.json())["result"]["cpu_count"] == psutil.cpu_count()
        engine.send_signal(number)
        _, rest = engine.communicate(timeout=30)
    assert rest == ""
    assert engine.returncode == 0


@pytest.mark.real
def test_a_second_program_on_the_port_says_so_in_one_line(engine: subprocess.Popen[str]) -> None:
    port = url_of(engine).removesuffix("/rpc").rpartition(":")[2]
    second = subprocess.run([*ENGINE, "--port", port], stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert second.returncode == 1
    [line] = second.stderr.splitlines()
    assert "address already in use" in json.loads(line)["event"]
