"""No token, password or secret in any log line of any library at any level: a real gateway that logs all it can."""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import loud_gateway
import pytest
import signing
from serving import RawClient, request
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.real

MARK = "s3cr3t"
"""Part of everything that must not be seen."""

PATIENCE_S = 60.0


class Loud:
    """The process, and what it logged once it has ended."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.lines = ""

    async def websocket(self, query: str, token: str | None, *messages: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"ws://127.0.0.1:{self.port}/ws{query}"
        with contextlib.suppress(InvalidStatus):
            async with connect(url, additional_headers=headers, proxy=None) as client:
                await client.recv()
                for message in messages:
                    await client.send(message if isinstance(message, bytes | str) else json.dumps(message))
                    await client.recv()

    async def http(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        client = await RawClient.open(self.port)
        client.writer.write(request(method, path, body, host=f"127.0.0.1:{self.port}", **headers))
        await client.rest()
        await client.close()

    async def handshake(self, protocols: str) -> None:
        client = await RawClient.open(self.port)
        fields: dict[str, Any] = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": protocols,
        }
        client.writer.write(request("GET", "/ws?types=", host=f"127.0.0.1:{self.port}", **fields))
        await client.until(b"\r\n\r\n")
        await client.close()

    async def raw(self, data: bytes) -> None:
        client = await RawClient.open(self.port)
        client.writer.write(data)
        client.writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await client.rest()
        await client.close()


@contextlib.asynccontextmanager
async def loud(document: dict[str, Any]) -> AsyncIterator[Loud]:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        loud_gateway.__file__,
        json.dumps(document),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stderr is not None
    logged = asyncio.create_task(program.stderr.read())
    try:
        async with asyncio.timeout(PATIENCE_S):
            url = (await program.stdout.readline()).decode().strip()
            assert url, (await logged).decode()
            gateway = Loud(url)
            yield gateway
            program.stdin.close()
            gateway.lines = (await logged).decode()
            assert await program.wait() == 0, gateway.lines
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()


def offered(token: str) -> str:
    """The subprotocol that carries `token`."""
    return f"tidegate.token.{base64.urlsafe_b64encode(token.encode()).rstrip(b'=').decode()}"


async def use_tokens_everywhere(gateway: Loud, good: str) -> None:
    """Every way in which a token reaches the gateway, rightly and wrongly."""
    for token in (good, f"wrong-{MARK}"):
        await gateway.websocket(f"?token={token}&types=", None)
        await gateway.websocket("?types=", token, {"type": "auth", "id": 1, "data": {"token": token}})
        await gateway.websocket(f"?token={token}&types=Bad", None)
        await gateway.websocket("?types=*&since=x:1", token, b"binary", f'{{"token":"{token}"', f'["{token}"]')
        for path in ("/api/v1/status", "/metrics", "/api/v1/clients", f"/api/v1/events?types=&token={token}&since=x"):
            await gateway.http("GET", path, Authorization=f"Bearer {token}")
        await gateway.http("GET", f"/nowhere?token={token}")
        await gateway.http("GET", f"/api/v1/status?token={token}", Origin=f"https://{MARK}.example")
        await gateway.http("POST", "/api/v1/events", b'{"type":"a.b","data":1}', Authorization=f"Bearer {token}")
        await gateway.http("POST", "/api/v1/events", f'{{"token":"{token}"'.encode(), Authorization=f"Bearer {token}")
        await gateway.http("GET", "/api/v1/status", Authorization=f"Basic {token}")
        for protocols in (f"tidegate.v1, {offered(token)}", f"tidegate.v1, {offered(token)}=", offered(token)):
            await gateway.handshake(protocols)
            fields: dict[str, Any] = {"Sec-WebSocket-Protocol": protocols}
            await gateway.http("GET", "/api/v1/session", **fields)
        fields = {"Cookie": f"session={token}", "X-Api-Key": token}
        await gateway.http("GET", "/ws", b"", **fields)
        await gateway.raw(f"GET /ws?token={token} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        await gateway.raw(f"GET /ws?token={token} HTTP/9.9\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        await gateway.raw(f"GET /ws?token={token} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nHost: ".encode())
        await gateway.raw(f"{token}\r\n\r\n".encode())


async def test_of_listed_tokens_and_backends(tmp_path: Path) -> None:
    (tmp_path / "bearer").write_text(f"backend-{MARK}")
    document = {
        "server": {"port": 0, "state_dir": "", "drain_s": 0.0},
        "auth": {"mode": "token", "tokens": [{"token": f"good-{MARK}", "roles": ["subscriber", "publisher", "admin"]}]},
        "backends": {
            "down": {
                "url": f"http://me:{MARK}@127.0.0.1:1/rpc?token={MARK}",
                "bearer_token_file": str(tmp_path / "bearer"),
                "headers": {"X-Api-Key": MARK},
            }
        },
        "sources": {"a.status": {"backend": "down", "method": "m", "interval_s": 0.1}},
    }
    async with loud(document) as gateway:
        await use_tokens_everywhere(gateway, f"good-{MARK}")
    assert_nothing_shown(gateway.lines, MARK, *(offered(f"{how}-{MARK}")[15:] for how in ("good", "wrong")))


async def test_of_signed_tokens(tmp_path: Path) -> None:
    secret = f"{MARK}-" * 8
    (tmp_path / "secret").write_text(secret)
    document = {
        "server": {"port": 0, "state_dir": "", "drain_s": 0.0},
        "auth": {"mode": "jwt", "jwt": {"algorithms": ["HS256"], "secret_file": str(tmp_path / "secret")}},
    }
    good = signing.signed({"roles": ["subscriber", "admin"]}, signing.secret(secret), "HS256")
    async with loud(document) as gateway:
        await use_tokens_everywhere(gateway, good)
    assert_nothing_shown(gateway.lines, MARK, *good.split("."), offered(good)[15:])


async def test_of_the_issuers_address() -> None:
    document = {
        "server": {"port": 0, "state_dir": "", "drain_s": 0.0},
        "auth": {"mode": "jwt", "jwt": {"jwks_url": f"http://me:{MARK}@127.0.0.1:1/?key={MARK}"}},
    }
    token = signing.signed({}, signing.rsa_key("one"))
    async with loud(document) as gateway:
        await gateway.websocket("", token)
    assert "keys not fetched" in gateway.lines
    assert_nothing_shown(gateway.lines, MARK, *token.split("."))


def assert_nothing_shown(lines: str, *secrets: str) -> None:
    assert len(lines.splitlines()) > 1
    for secret in secrets:
        shown = [line for line in lines.splitlines() if secret in line]
        assert not shown, shown[:3]
