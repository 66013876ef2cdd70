"""On real sockets: what clients see when their token is accepted no longer, or for less, while they are connected."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fanout import draft, knowing
from serving import RawClient, Serving, read_answer, request, serving
from signing import secret, signed
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tidegate.app import running
from tidegate.config import from_document
from tidegate.core.access.grant import Grant, Role
from tidegate.core.topics import PatternSet
from tidegate.outbound.auth import files

PATIENCE_S = 20.0
ALL = Grant(name="all")
NARROW = Grant(name="narrow", allowed=PatternSet(["a"]))
WRITER = Grant(name="writer", roles=frozenset({Role.PUBLISHER}))
BEARER = {"Authorization": "Bearer t"}


@asynccontextmanager
async def websocket(port: int, token: str = "t", types: str = "*") -> AsyncIterator[ClientConnection]:
    """A client that has got everything that was there when it came."""
    fields = {"Authorization": f"Bearer {token}"}
    async with connect(f"ws://127.0.0.1:{port}/ws?types={types}", additional_headers=fields, proxy=None) as client:
        while (await message(client))["type"] != "synced":
            pass
        yield client


async def message(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        found: dict[str, Any] = json.loads(await client.recv())
        return found


async def ended(client: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """What still came, and the close code."""
    came = []
    try:
        while True:
            came.append(await message(client))
    except ConnectionClosed as closed:
        return came, None if closed.rcvd is None else closed.rcvd.code


class TestWebSocket:
    async def test_a_token_that_is_gone(self) -> None:
        grants = {"t": ALL, "u": ALL}
        async with serving(grants=grants) as gate, websocket(gate.port) as gone, websocket(gate.port, "u") as kept:
            gate.house.gateway.authenticate_with(knowing({"u": ALL}))
            [error], code = await ended(gone)
            assert (error["type"], error["data"]["code"], code) == ("connection_error", 4401, 4401)
            await gate.house.gateway.publish([draft("a", 1)])
            assert (await message(kept))["type"] == "a"

    async def test_a_role_that_is_gone(self) -> None:
        async with serving(grants={"t": ALL}) as gate, websocket(gate.port) as client:
            gate.house.gateway.authenticate_with(knowing({"t": WRITER}))
            [error], code = await ended(client)
            assert (error["data"]["code"], code) == (4403, 4403)

    async def test_types_that_are_gone(self) -> None:
        async with serving(grants={"t": ALL}) as gate, websocket(gate.port, types="*,a") as client:
            gate.house.gateway.authenticate_with(knowing({"t": NARROW}))
            await gate.house.gateway.publish([draft("b", 1), draft("a", 2)])
            told, event = await message(client), await message(client)
            assert (told["type"], "id" in told, told["data"]) == (
                "unsubscribed",
                False,
                {"types": ["a"], "removed": ["*"]},
            )
            assert (event["type"], event["data"]) == ("a", 2)


class TestEventStream:
    @asynccontextmanager
    async def stream(self, gate: Serving, types: str = "*") -> AsyncIterator[RawClient]:
        client = await RawClient.open(gate.port)
        try:
            client.writer.write(request("GET", f"/api/v1/events?types={types}", b"", host="127.0.0.1", **BEARER))
            await client.until(b"event: synced")
            await client.until(b"\n\n")
            yield client
        finally:
            await client.close()

    async def test_a_token_that_is_gone(self) -> None:
        async with serving(grants={"t": ALL}) as gate, self.stream(gate) as client:
            gate.house.gateway.authenticate_with(knowing({"u": ALL}))
            rest = await client.rest()
            assert b"event: connection_error" in rest
            assert b'"code":4401' in rest
            assert rest.endswith(b"0\r\n\r\n"), "the answer ends in order"

    async def test_types_that_are_gone(self) -> None:
        async with serving(grants={"t": ALL}) as gate, self.stream(gate, "*,a") as client:
            gate.house.gateway.authenticate_with(knowing({"t": NARROW}))
            await gate.house.gateway.publish([draft("b", 1), draft("a", 2)])
            told = await client.until(b"event: a\n")
            assert b'"removed":["*"]' in told
            assert b"event: b\n" not in told


class TestRequestsUnderWay:
    async def publish(self, gate: Serving, change: Any) -> int:
        """Publish with the token `t`; `change` is made after the head was read and before the body comes."""
        body = json.dumps({"type": "a", "data": 1}).encode()
        head, mark, rest = request("POST", "/api/v1/events", body, host="127.0.0.1", **BEARER).partition(b"\r\n\r\n")
        client = await RawClient.open(gate.port)
        try:
            client.writer.write(head + mark + rest[:5])
            await gate.ask("GET", "/healthz")  # by now the head has been read
            change()
            client.writer.write(rest[5:])
            return read_answer(await client.rest()).status
        finally:
            await client.close()

    @pytest.mark.parametrize(
        ("grants", "status"), [({"t": ALL}, 202), ({"u": ALL}, 401), ({"t": Grant(allowed=PatternSet(["b"]))}, 403)]
    )
    async def test_a_publish_goes_by_what_its_token_may_do_when_it_has_come_whole(
        self, grants: dict[str, Grant], status: int
    ) -> None:
        async with serving(grants={"t": ALL}) as gate:
            change = lambda: gate.house.gateway.authenticate_with(knowing(grants))  # noqa: E731
            assert await self.publish(gate, change) == status
            assert gate.house.gateway.position.seq == (1 if status == 202 else 0)


class TestFiles:
    """The gateway reads them again by itself; no reload is needed."""

    def document(self, tmp_path: Path, auth: dict[str, Any]) -> dict[str, Any]:
        return {
            "server": {"port": 0, "state_dir": ""},
            "backends": {"engine": {"url": "http://127.0.0.1:9/"}},
            "sources": {"a": {"backend": "engine", "method": "a"}},
            "auth": auth,
        }

    async def closed_with(self, document: dict[str, Any], token: str, path: Path, content: str) -> int | None:
        """Connect with `token`, write `content` to `path`, and return the code with which the connection ends."""
        gateway = running(from_document(document, environ={}))
        async with gateway as app, websocket(int(app.url.rpartition(":")[2]), token) as client:
            path.write_text(content)
            _, code = await ended(client)
            return code

    @pytest.fixture(autouse=True)
    def often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "REREAD_S", 0.05)

    async def test_another_token_in_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text("first")
        tokens = [{"token_file": str(path), "roles": ["subscriber"]}]
        document = self.document(tmp_path, {"mode": "token", "tokens": tokens})
        assert await self.closed_with(document, "first", path, "second") == 4401

    async def test_another_secret_for_signatures(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text("s" * 32)
        document = self.document(tmp_path, {"mode": "jwt", "jwt": {"algorithms": ["HS256"], "secret_file": str(path)}})
        token = signed({"sub": "me", "roles": ["subscriber"]}, secret(), "HS256")
        assert await self.closed_with(document, token, path, "t" * 32) == 4401
