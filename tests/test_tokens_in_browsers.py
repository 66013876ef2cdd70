"""A token where no header can be set, as a browser and Node's `ws` send it, and the session that a page asks for."""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, needs_browser, said
from playwright.async_api import Page

from tidegate.app import App, running
from tidegate.config import from_document

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[1]
PATIENCE_S = 30.0
TOKEN = "t-0123456789abcdef~?>"

OPEN = """([url, protocols]) => new Promise((done) => {
    const socket = new WebSocket(url, protocols);
    socket.onmessage = (message) => {
        done({ protocol: socket.protocol, type: JSON.parse(message.data).type });
        socket.close();
    };
    socket.onclose = (event) => done({ code: event.code });
})"""

ASK = """async ([url, token]) => {
    const answer = await fetch(url, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
    return { ...(await answer.json()), http: answer.status };
}"""


@asynccontextmanager
async def gateway(**server: Any) -> AsyncIterator[App]:
    document = {
        "server": {"port": 0, "state_dir": "", "drain_s": 0.0, **server},
        "auth": {"mode": "token", "tokens": [{"token": TOKEN, "types": ["a.*"]}]},
    }
    async with running(from_document(document, environ={})) as app:
        yield app


def offers(token: str) -> list[str]:
    return ["tidegate.v1", f"tidegate.token.{base64.urlsafe_b64encode(token.encode()).rstrip(b'=').decode()}"]


def websocket(app: App) -> str:
    return app.url.replace("http", "ws", 1) + "/ws?types="


async def evaluated(page: Page, script: str, *arguments: Any) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await page.evaluate(script, list(arguments))


@needs_browser
async def test_a_browser_sends_its_token_as_a_subprotocol() -> None:
    async with gateway() as app, chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"{app.url}/healthz")
        opened = await evaluated(page, OPEN, websocket(app), offers(TOKEN))
        assert opened == {"protocol": "tidegate.v1", "type": "welcome"}
        assert await evaluated(page, OPEN, websocket(app), offers("wrong")) == {"code": 1006}
        assert await evaluated(page, OPEN, websocket(app), offers(TOKEN)[1:]) == {"code": 1006}


@needs_browser
async def test_a_page_asks_what_it_may_do_and_nothing_is_an_error() -> None:
    async with gateway() as home, gateway(allowed_origins=[home.url]) as app, chromium() as browser:
        page = await browser.new_page()
        await page.route("**/favicon.ico", lambda asked: asked.fulfill(status=204))
        lines = said(page)
        await page.goto(home.url + "/healthz")
        url = f"{app.url}/api/v1/session"
        stranger = await evaluated(page, ASK, url, "")
        wrong = await evaluated(page, ASK, url, "wrong")
        known = await evaluated(page, ASK, url, TOKEN)
    assert lines == []
    assert (stranger["http"], stranger["authenticated"], stranger["types"]) == (200, False, [])
    assert (wrong["http"], wrong["authenticated"], wrong["roles"]) == (200, False, [])
    assert (known["http"], known["authenticated"], known["roles"]) == (200, True, ["subscriber"])
    assert (known["auth"], known["types"], known["retry_after_s"]) == ("token", ["a.*"], None)


@pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules/ws").exists(),
    reason="no Node with ws: see tools/install-check-tools",
)
async def test_node_sends_its_token_as_a_subprotocol() -> None:
    script = """
        import { WebSocket } from "ws";
        const [url, ...protocols] = process.argv.slice(1);
        const socket = new WebSocket(url, protocols);
        socket.once("message", (data) => {
            console.log(JSON.stringify([socket.protocol, JSON.parse(data).type]));
            socket.close();
        });
        socket.on("unexpected-response", (_, answer) => {
            console.log(JSON.stringify([answer.statusCode]));
            socket.terminate();
        });
        socket.on("error", () => {});
    """

    async def told(*protocols: str) -> Any:
        command = ["node", "--input-type=module", "--eval", script, websocket(app), *protocols]
        node = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await node.communicate()
        return json.loads(output)

    async with gateway() as app:
        assert await told(*offers(TOKEN)) == ["tidegate.v1", "welcome"]
        assert await told(*reversed(offers(TOKEN))) == ["tidegate.v1", "welcome"]
        assert await told(*offers("wrong")) == [401]
        assert await told("graphql-ws") == [401]
