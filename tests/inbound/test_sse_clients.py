"""Event streams with clients of other makes: a browser's ``EventSource``, which comes back by itself, and curl."""

import asyncio
import json
import shutil
from typing import Any

import pytest
from browser import chromium, needs_browser
from fanout import draft
from playwright.async_api import Page
from serving import GRANTS, Serving, serving

from tidegate.app import App, running
from tidegate.config import from_document
from tidegate.errors import CloseCode
from tidegate.inbound import sse
from tidegate.runtime import draining

pytestmark = pytest.mark.real

PATIENCE_S = 20.0

FOLLOW = """() => {
    window.heard = [];
    window.source = new EventSource("/api/v1/events?types=app.*");
    for (const type of ["welcome", "gap", "app.news", "notification"]) {
        window.source.addEventListener(type, (event) => {
            const { seq, data } = JSON.parse(event.data);
            window.heard.push({ type, seq, data, position: event.lastEventId });
        });
    }
}"""


def serve(port: int = 0) -> Any:
    server = {"port": port, "state_dir": "", "drain_s": 0.5}
    return running(from_document({"server": server}, environ={}))


async def heard(page: Page, count: int) -> list[dict[str, Any]]:
    """What the page's source has heard, once it is `count` events."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found: list[dict[str, Any]] = await page.evaluate("window.heard")
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def publish(app: App, data: int) -> None:
    await app.gateway.publish([draft("app.news", data)])


def stream_of(app: App) -> Any:
    """The page's event stream; the page follows everything over a WebSocket too."""
    [found] = [each for each in app.gateway.clients.connections if each.patterns.sorted() == ["app.*"]]
    return found


@needs_browser
async def test_an_event_source_comes_back_to_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "RETRY_MS", 50)
    monkeypatch.setattr(sse, "RETRY_SPREAD_MS", 0)
    monkeypatch.setattr(draining, "RETURN_SPREAD_MS", 0)
    async with chromium() as browser:
        page = await browser.new_page()
        async with serve() as app:
            port, epoch = int(app.url.rpartition(":")[2]), app.gateway.position.epoch
            await page.goto(app.url)
            await page.evaluate(FOLLOW)
            await heard(page, 1)
            await publish(app, 1)
            await heard(page, 2)
            stream_of(app).abort(CloseCode.GOING_AWAY, "a cable is pulled")
            await publish(app, 2)
            events = await heard(page, 4)
            await app.drain()
        async with serve(port) as app:
            after = (await heard(page, 7))[4:]
            await publish(app, 3)
            last = (await heard(page, 8))[-1]
            await page.evaluate("window.source.close()")

    assert [(event["type"], event["position"]) for event in events] == [
        ("welcome", ""),
        ("app.news", f"{epoch}:1"),
        ("welcome", f"{epoch}:1"),
        ("app.news", f"{epoch}:2"),
    ]
    assert events[2]["data"]["resumed"] is True
    assert [event["type"] for event in after] == ["notification", "welcome", "gap"]
    assert after[2]["data"]["reason"] == "epoch_changed"
    assert after[2]["data"]["requested"] == f"{epoch}:2"
    assert (last["data"], last["position"]) == (3, f"{after[1]['data']['epoch']}:1")


async def another_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends one event whose id is of a kind of its own, and ends the stream."""
    await reader.readuntil(b"\r\n\r\n")
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nAccess-Control-Allow-Origin: *\r\n"
    writer.write(f"{head}Connection: close\r\n\r\nretry: 300\nid: 42\ndata: hello\n\n".encode())
    await writer.drain()
    writer.close()


@needs_browser
async def test_an_event_source_that_followed_another_server_gets_a_gap_and_goes_on() -> None:
    """A gateway takes the place of another server: the browser comes back with that one's `Last-Event-ID`."""
    async with serve() as page_of, chromium() as browser:
        other = await asyncio.start_server(another_server, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        page = await browser.new_page()
        await page.goto(page_of.url)
        await page.goto(f"{page_of.url}/healthz")
        await page.evaluate(FOLLOW.replace('"/api', f'"http://127.0.0.1:{port}/api'))
        async with asyncio.timeout(PATIENCE_S):
            while await page.evaluate("window.source.readyState") != 0:
                await asyncio.sleep(0.01)
        other.close()
        await other.wait_closed()
        server = {"port": port, "state_dir": "", "drain_s": 0.0, "allowed_origins": [page_of.url]}
        async with running(from_document({"server": server}, environ={})) as app:
            welcome, gap = (await heard(page, 2))[:2]
            await publish(app, 1)
            news = (await heard(page, 3))[2]
            await page.evaluate("window.source.close()")
    assert (welcome["type"], welcome["position"], welcome["data"]["resumed"]) == ("welcome", "42", False)
    assert (gap["type"], gap["data"]["reason"], gap["data"]["requested"]) == ("gap", "epoch_changed", None)
    assert (news["type"], news["data"]) == ("app.news", 1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: see tools/install-check-tools")
async def test_curl_sees_every_event_at_once() -> None:
    async with serving(grants=GRANTS) as gate:
        await gate.house.gateway.publish([draft("app.kept", 0, retain=True)])
        url = f"{gate.url}/api/v1/events?types=app.*"
        curl = await asyncio.create_subprocess_exec(
            "curl",
            "--no-buffer",
            "--silent",
            "--header",
            "Authorization: Bearer all",
            url,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert curl.stdout is not None
            blocks = [await block(curl.stdout) for _ in range(3)]
            for n in range(3):
                await gate.house.gateway.publish([draft("app.news", n)])
                blocks.append(await block(curl.stdout))
        finally:
            curl.kill()
            await curl.wait()
        await until_left(gate)
    assert [found.get("event") for found in blocks] == ["welcome", "app.kept", "synced", *["app.news"] * 3]
    assert [found.get("id") for found in blocks] == [None, None, "e1:1", "e1:2", "e1:3", "e1:4"]
    assert [json.loads(found["data"])["data"] for found in blocks[3:]] == [0, 1, 2]


async def block(stream: asyncio.StreamReader) -> dict[str, str]:
    async with asyncio.timeout(PATIENCE_S):
        text = (await stream.readuntil(b"\n\n")).decode()
    return {name: value for name, _, value in (line.partition(": ") for line in text.splitlines())}


async def until_left(gate: Serving) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while gate.house.gateway.clients.connections:
            await asyncio.sleep(0.01)
