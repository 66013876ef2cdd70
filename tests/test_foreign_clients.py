"""Clients of other makes, as they are: `python -m websockets`, Debian's chromium, Node's `ws`, and our own page."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, needs_browser, said
from fanout import draft
from playwright.async_api import WebSocketRoute
from programs import PATIENCE_S, Program, tidegate, until

from tidegate.app import running
from tidegate.config import from_document

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[1]

Frames = list[dict[str, Any]]
Heard = Callable[[], Awaitable[Frames]]
"""What a client has heard so far."""

Client = Callable[[str, Sequence[str]], AbstractAsyncContextManager[Heard]]
"""Connects to a URL and sends messages."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Program]:
    """A gateway that has a value of each of its sources."""
    with tidegate("serve", "--port", "0", TIDEGATE_SERVER__HEARTBEAT_INTERVAL_S="0.5") as program:
        until(lambda: is_ready(program), what=program.err)
        yield program


def is_ready(gateway: Program) -> bool:
    try:
        with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=PATIENCE_S) as answer:
            return bool(json.load(answer) == {"status": "ready"})
    except urllib.error.HTTPError as error:
        error.close()
        return False


@asynccontextmanager
async def python_websockets(url: str, messages: Sequence[str]) -> AsyncIterator[Heard]:
    """Its interactive client, which shows a frame as a line that begins with ``<``, among control sequences."""
    command = [sys.executable, "-m", "websockets", url]
    async with printing(command, first="Connected to", messages=messages) as lines:

        async def heard() -> Frames:
            return [json.loads(found[1]) for line in list(lines) if (found := re.search(r"< (\{.*\})$", line))]

        yield heard


@asynccontextmanager
async def node_ws(url: str, messages: Sequence[str]) -> AsyncIterator[Heard]:
    command = ["node", str(ROOT / "tests/support/foreign-client.mjs"), url, *messages]
    async with printing(command) as lines:

        async def heard() -> Frames:
            return [json.loads(line) for line in list(lines)]

        yield heard


@asynccontextmanager
async def printing(
    command: Sequence[str], *, first: str = "", messages: Sequence[str] = ()
) -> AsyncIterator[list[str]]:
    """The lines of a program so far. It is told `messages`, a line each, when it has said `first`."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdin is not None
    lines: list[str] = []

    def read(stream: Any) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 - others read the list meanwhile

    reader = threading.Thread(target=read, args=(process.stdout,))
    reader.start()
    try:
        await asyncio.to_thread(until, lambda: not first or any(first in line for line in list(lines)), what=lines)
        for message in messages:
            process.stdin.write(message + "\n")
        process.stdin.flush()
        yield lines
    finally:
        process.kill()
        await asyncio.to_thread(reader.join)
        process.communicate()


@asynccontextmanager
async def chromium_websocket(url: str, messages: Sequence[str]) -> AsyncIterator[Heard]:
    """The browser's own `WebSocket`, on a page of the gateway."""
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(url.partition("/ws")[0].replace("ws", "http", 1) + "/healthz")
        await page.evaluate(
            """([url, messages]) => {
                window.heard = [];
                const socket = new WebSocket(url);
                socket.onmessage = (message) => window.heard.push(JSON.parse(message.data));
                socket.onopen = () => messages.forEach((message) => socket.send(message));
            }""",
            [url, list(messages)],
        )

        async def heard() -> Frames:
            frames: Frames = await page.evaluate("window.heard")
            return frames

        yield heard


needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules/ws").exists(),
    reason="no Node with ws: see tools/install-check-tools",
)
CLIENTS = pytest.mark.parametrize(
    "client",
    [
        pytest.param(python_websockets, id="python"),
        pytest.param(node_ws, id="node", marks=needs_node),
        pytest.param(chromium_websocket, id="chromium", marks=needs_browser),
    ],
)


def websocket(gateway: Program, query: str = "") -> str:
    return f"{gateway.url.replace('http', 'ws', 1)}/ws{query}"


async def once(heard: Heard, condition: Callable[[Frames], bool]) -> Frames:
    """What was heard when `condition` held at last."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition(frames := await heard()):
        assert asyncio.get_running_loop().time() < deadline, frames
        await asyncio.sleep(0.05)
    return frames


@CLIENTS
async def test_events_come_without_asking_for_them(client: Client, gateway: Program) -> None:
    async with client(websocket(gateway), []) as heard:
        live = {"system.status", "heartbeat"}
        frames = await once(heard, lambda frames: live <= {it["type"] for it in frames if "snapshot" not in it})
    assert frames[0]["type"] == "welcome"
    handed_over = [frame for frame in frames if "snapshot" in frame]
    assert {"system.status", "storage.update"} <= {frame["type"] for frame in handed_over}
    assert frames[1 : 1 + len(handed_over)] == handed_over
    synced = next(frame for frame in frames if frame["type"] == "synced")
    assert synced["data"]["seq"] >= max(frame["seq"] for frame in handed_over)
    status = next(frame for frame in frames if frame["type"] == "system.status" and not frame["stale"])
    assert status["data"]["hostname"] == os.uname().nodename
    seqs = [frame["seq"] for frame in frames if "seq" in frame and "snapshot" not in frame]
    assert seqs == sorted(set(seqs))


@CLIENTS
async def test_types_are_taken_beside_type_and_inside_data(client: Client, gateway: Program) -> None:
    beside = '{"type":"subscribe","id":1,"types":["system.status"]}'
    inside = '{"type":"subscribe","id":"two","data":{"types":["storage.*"]}}'
    async with client(websocket(gateway, "?types="), [beside, inside]) as heard:
        frames = await once(heard, lambda frames: "storage.update" in {it["type"] for it in frames})
    assert frames[0]["data"]["subscriptions"] == []
    replies = [(it["id"], it["data"]["added"], it["data"]["types"]) for it in frames if it["type"] == "subscribed"]
    assert replies == [
        (1, ["system.status"], ["system.status"]),
        ("two", ["storage.*"], ["storage.*", "system.status"]),
    ]
    types = [frame["type"] for frame in frames]
    assert types[1:5] == ["synced", "subscribed", "system.status", "synced"]
    assert types.index("storage.update") > len(types) - 1 - types[::-1].index("subscribed")
    assert {"subscribed", "synced", "welcome", "system.status", "storage.update"} == set(types)


@needs_browser
async def test_our_own_page_that_is_cut_off_among_the_snapshots_shows_them_all_the_same() -> None:
    """Its first connections break after some of the values, as a proxy or a network may do."""
    config = {"server": {"port": 0, "state_dir": "", "default_types": ["app.*"]}}
    async with running(from_document(config, environ={})) as app, chromium() as browser:
        values = [draft("app.value", {"n": n}, key=f"k{n}", retain=True) for n in range(50)]
        await app.gateway.publish(values)
        page = await browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        asked: list[str] = []

        async def through(route: WebSocketRoute) -> None:
            server = route.connect_to_server()
            asked.append(route.url)
            passed = 0

            def from_server(message: str | bytes) -> None:
                nonlocal passed
                passed += 1
                if len(asked) > 2 or passed <= 20:
                    route.send(message)
                elif passed == 21:
                    asyncio.get_running_loop().create_task(route.close(code=1001))

            server.on_message(from_server)

        await page.route_web_socket(lambda url: url.endswith("/ws") or "/ws?" in url, through)
        await page.goto(app.url)
        await page.locator("[data-count=all] .count:text-is('50')").wait_for()
        await page.locator("[data-group='app.value'] button").click()
        for key in ("k0", "k49"):
            await page.fill("#filter", key)
            await page.locator(f"[data-type='app.value'][data-key='{key}'][data-state=published]").wait_for()
        assert not any("since=" in url for url in asked), "there is no position before `synced`"


@needs_browser
async def test_our_own_page_shows_live_events(gateway: Program) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        console = said(page)
        await page.goto(gateway.url)
        status = page.locator("[data-type='system.status']")
        await page.wait_for_selector("[data-type='system.status'][data-state=fresh]")
        await page.wait_for_selector("[data-type='storage.update'][data-state=fresh]")
        await page.wait_for_selector("#connection[data-state=live]")
        before = await status.locator(".value").inner_text()
        assert os.uname().nodename in before
        await status.locator(".value").filter(has_not_text=before).wait_for()

        os.kill(await asyncio.to_thread(until, lambda: gateway.engine), signal.SIGKILL)
        await page.wait_for_selector("[data-type='system.status'][data-state=stale]:has-text('RPC_DISCONNECT')")
        await page.wait_for_selector("#banner:visible:has-text('not current')")
        await page.wait_for_selector("[data-type='system.status'][data-state=fresh]")
    assert [line for line in console if line.startswith("error")] == []
