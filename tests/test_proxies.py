"""``docs/proxies.md`` with real proxies: each configuration there is run as it stands, but for ports and files."""

import asyncio
import json
import re
import shutil
import socket
import ssl
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import certificates
import pytest
from browser import chromium, needs_browser, said
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tidegate.app import App, running
from tidegate.config import from_document

pytestmark = pytest.mark.real

PATIENCE_S = 20.0
NAME = "gw.example.org"
CLIENT = "127.0.0.5"
"""Where clients come from, on a machine that only has itself. The proxy comes from 127.0.0.1."""

FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}

DOC = (Path(__file__).parents[1] / "docs/proxies.md").read_text()


def block(language: str) -> str:
    """The one block of `language` in the document."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.DOTALL | re.MULTILINE)
    return str(found)


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, listen: int, upstream: int) -> list[str]:
    """The command that runs the document's nginx; its file is included where Debian includes it."""
    changes = {
        "listen 443": f"listen 127.0.0.1:{listen}",
        "127.0.0.1:12080": f"127.0.0.1:{upstream}",
        "/etc/ssl/certs/gw.example.org.pem": str(folder / "server.pem"),
        "/etc/ssl/private/gw.example.org.key": str(folder / "server.pem"),
        "/var/log/nginx/tidegate.log": str(folder / "access.log"),
    }
    (folder / "tidegate.conf").write_text(replaced(block("nginx"), changes))
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        # One process, which needs no other user for its workers.
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}"
        f" http {{ {paths} include {folder}/tidegate.conf; }}"
    )
    return ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def haproxy(folder: Path, listen: int, upstream: int) -> list[str]:
    """The command that runs the document's haproxy; its log goes to standard output."""
    changes = {
        "maxconn 20000": "maxconn 200",
        "bind :443": f"bind 127.0.0.1:{listen}",
        "127.0.0.1:12080": f"127.0.0.1:{upstream}",
        "/etc/haproxy/gw.example.org.pem": str(folder / "server.pem"),
        "log /dev/log local0": "log stdout format raw local0",
    }
    (folder / "haproxy.cfg").write_text(replaced(block("haproxy"), changes))
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


PROXIES = {"nginx": nginx, "haproxy": haproxy}


class Proxied:
    """A gateway behind a proxy, as clients see it."""

    def __init__(self, app: App, port: int, folder: Path) -> None:
        self.app = app
        self.port = port
        self.folder = folder
        self.host = f"{NAME}:{port}"
        self.origin = f"https://{self.host}"
        self.trusting = ssl.create_default_context(cafile=folder / "ca.pem")
        self.trusting.check_hostname = False  # the test's certificates are for 127.0.0.1

    def websocket(self, query: str = "?types=app.*", path: str = "/tidegate/ws", **how: Any) -> connect:
        return connect(
            f"wss://{self.host}{path}{query}",
            host="127.0.0.1",
            port=self.port,
            local_addr=(CLIENT, 0),
            ssl=self.trusting,
            proxy=None,
            ping_interval=None,
            additional_headers=FORGED,
            **how,
        )

    async def refused(self, **how: Any) -> tuple[int, dict[str, Any]]:
        with pytest.raises(InvalidStatus) as caught:
            async with self.websocket(**how):
                pass
        response = caught.value.response
        return response.status_code, json.loads(response.body or b"{}")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """For plain requests; ask for `url`."""
        connector = aiohttp.TCPConnector(ssl=self.trusting, local_addr=(CLIENT, 0))
        headers = {**FORGED, "Host": self.host, "Origin": self.origin}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            yield session
        await asyncio.sleep(0)

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    async def publish(self, session: aiohttp.ClientSession, event_type: str, data: Any) -> int:
        body = {"type": event_type, "data": data}
        async with session.post(self.url("/tidegate/api/v1/events"), json=body) as response:
            assert response.status == 202, await response.text()
            seq: int = (await response.json())["seq"]
            return seq

    async def addresses(self, session: aiohttp.ClientSession) -> list[str]:
        """Where the gateway says that its clients are."""
        async with session.get(self.url("/tidegate/api/v1/clients")) as response:
            return [client["address"] for client in (await response.json())["clients"]]


@pytest.fixture(params=PROXIES)
async def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Proxied]:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param}: see tools/install-check-tools")
    certificates.written_to(tmp_path)
    document = tomllib.loads(block("toml"))
    document["server"] |= {"port": 0, "state_dir": "", "drain_s": 0.2}
    async with running(from_document(document, environ={})) as app:
        port = free_port()
        command = PROXIES[request.param](tmp_path, port, int(app.url.rpartition(":")[2]))
        with (tmp_path / "output").open("wb") as output:
            proxy = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            await listening(port, proxy, tmp_path / "output")
            yield Proxied(app, port, tmp_path)
        finally:
            with suppress(ProcessLookupError):
                proxy.kill()
            await proxy.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def listening(port: int, proxy: asyncio.subprocess.Process, output: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            assert proxy.returncode is None, output.read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def message(client: ClientConnection) -> dict[str, Any]:
    """The next message but `synced`, which clients ignore that do not know it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found: dict[str, Any] = json.loads(await client.recv())
            if found["type"] != "synced":
                return found


async def block_of(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The next block of an event stream."""
    async with asyncio.timeout(PATIENCE_S):
        text = (await response.content.readuntil(b"\n\n")).decode()
    return {name: value for name, _, value in (line.partition(": ") for line in text.strip().splitlines())}


def leave(response: aiohttp.ClientResponse) -> None:
    """End the connection as programs end it: closing would wait for the proxy to say goodbye in TLS."""
    assert response.connection is not None
    assert response.connection.transport is not None
    response.connection.transport.abort()


async def until_left(app: App) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while app.gateway.clients.connections:
            await asyncio.sleep(0.01)


async def test_a_websocket(proxied: Proxied) -> None:
    async with proxied.session() as session, proxied.websocket(origin=proxied.origin) as client:
        assert (await message(client))["type"] == "welcome"
        assert await proxied.addresses(session) == [CLIENT]
        await proxied.publish(session, "app.news", "x" * 100_000)
        live = await message(client)
        assert (live["type"], len(live["data"])) == ("app.news", 100_000)
        await client.send(json.dumps({"type": "ping", "id": "y" * 60_000}))
        assert (await message(client))["id"] == "y" * 60_000
        await client.close()
        await until_left(proxied.app)


async def test_a_token_as_a_subprotocol_and_a_session(proxied: Proxied) -> None:
    async with proxied.session() as session:
        async with proxied.websocket(path="/tidegate/ws/", subprotocols=["tidegate.v1", "tidegate.token.dA"]) as client:
            assert (client.subprotocol, (await message(client))["type"]) == ("tidegate.v1", "welcome")
        async with session.get(proxied.url("/tidegate/api/v1/session")) as response:
            assert (response.status, (await response.json())["authenticated"]) == (200, True)
        elsewhere = {"Host": "10.0.0.1", "Origin": "https://10.0.0.1"}
        async with session.get(proxied.url("/tidegate/healthz"), headers=elsewhere) as response:
            assert response.status == 200
        async with session.get(
            proxied.url("/tidegate/api/v1/events?types=app.*"), headers={"Last-Event-ID": "42"}
        ) as response:
            assert [(await block_of(response))["event"] for _ in range(2)] == ["welcome", "gap"]
            leave(response)


async def test_a_websocket_that_is_dropped_leaves_nothing(proxied: Proxied) -> None:
    async with proxied.websocket() as client:
        await message(client)
        client.transport.abort()
        await until_left(proxied.app)


async def test_a_drain_arrives_with_its_code(proxied: Proxied) -> None:
    async with proxied.session() as session, proxied.websocket() as client:
        await message(client)
        draining = asyncio.create_task(proxied.app.drain())
        assert (await message(client))["data"]["code"] == "DRAINING"
        with pytest.raises(ConnectionClosed):
            await message(client)
        assert client.close_code == 1012
        await draining
        assert (await proxied.refused())[0] == 503
        async with session.get(proxied.url("/tidegate/api/v1/events")) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")


async def test_an_event_stream(proxied: Proxied) -> None:
    stream = proxied.url("/tidegate/api/v1/events?types=app.*")
    async with proxied.session() as session:
        async with session.get(stream) as response:
            assert response.headers["Access-Control-Allow-Origin"] == proxied.origin
            assert (await block_of(response))["event"] == "welcome"
            place = (await block_of(response))["id"]
            assert await proxied.addresses(session) == [CLIENT]
            for n in range(3):
                await proxied.publish(session, "app.news", n)
                assert json.loads((await block_of(response))["data"])["data"] == n
            leave(response)
        await until_left(proxied.app)
        async with session.get(stream, headers={"Last-Event-ID": place}) as response:
            assert json.loads((await block_of(response))["data"])["data"]["resumed"] is True
            assert [json.loads((await block_of(response))["data"])["data"] for _ in range(3)] == [0, 1, 2]
            assert (await block_of(response))["event"] == "synced"
            leave(response)


async def test_origins_hosts_and_paths_that_are_not_ours(proxied: Proxied) -> None:
    foreign = ["https://evil.example", f"http://{proxied.host}", f"https://{NAME}", "null"]
    for origin in foreign:
        status, problem = await proxied.refused(origin=origin)
        assert status == 403
        assert "server.allowed_origins" in problem["detail"]
    async with proxied.session() as session:
        for headers, path, expected in (
            ({"Origin": "https://evil.example"}, "/tidegate/healthz", 403),
            ({"Host": f"evil.example:{proxied.port}"}, "/tidegate/api/v1/session", 421),
            ({}, "/tidegate/healthz", 200),
            ({}, "/tidegate/healthz?token=s3cret", 200),
        ):
            async with session.get(proxied.url(path), headers=headers) as response:
                assert response.status == expected
        async with session.get(proxied.url("/tidegate"), allow_redirects=False) as response:
            assert response.status in {301, 308}
            assert response.headers["Location"] in {"/tidegate/", f"{proxied.origin}/tidegate/"}
        async with session.get(proxied.url("/healthz")) as response:
            assert response.status in {404, 503}


async def test_the_proxy_logs_no_queries(proxied: Proxied) -> None:
    async with proxied.session() as session:
        await session.get(proxied.url("/tidegate/healthz?token=s3cret"))
    async with proxied.websocket("?types=&token=s3cret") as client:
        await message(client)
    async with asyncio.timeout(PATIENCE_S):
        while "/tidegate/ws" not in (logged := log_of(proxied)):
            await asyncio.sleep(0.02)
    assert "/tidegate/healthz" in logged
    assert "s3cret" not in logged


def log_of(proxied: Proxied) -> str:
    """All that the proxy wrote."""
    return "".join(path.read_text() for path in proxied.folder.glob("*") if path.name in {"access.log", "output"})


WATCH = """async () => {
    const socket = new WebSocket(new URL("ws?types=app.*", document.baseURI.replace("http", "ws")));
    const source = new EventSource(new URL("api/v1/events?types=app.*", document.baseURI));
    const synced = (done) => (event) => { if (JSON.parse(event.data).type === "synced") done(); };
    const welcomed = [new Promise((done) => { socket.onmessage = synced(done); }),
                      new Promise((done) => { source.addEventListener("synced", done); })];
    await Promise.all(welcomed);
    const heard = [new Promise((done) => { socket.onmessage = (event) => done(JSON.parse(event.data).data); }),
                   new Promise((done) => {
                       source.addEventListener("app.news", (event) => done(JSON.parse(event.data).data)); })];
    const answer = await fetch(new URL("api/v1/events", document.baseURI),
                               {method: "POST", body: JSON.stringify({type: "app.news", data: "hello"})});
    const found = [answer.status, ...(await Promise.all(heard))];
    socket.close();
    source.close();
    return found;
}"""


@needs_browser
async def test_a_browser(proxied: Proxied) -> None:
    async with chromium(f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as browser:
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        console = said(page)
        await page.goto(f"{proxied.origin}/tidegate")
        assert page.url == f"{proxied.origin}/tidegate/"
        await page.wait_for_selector("#connection[data-state=live]")
        assert await page.evaluate(WATCH) == [202, "hello", "hello"]
        assert console == []
