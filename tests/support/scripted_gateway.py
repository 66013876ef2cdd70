"""A WebSocket server that plays one script per connection, for tests of clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

TIMESTAMP = "2026-11-22T21:40:03.123Z"

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection, with the contract's messages."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    async def send(self, kind: str, data: object, **fields: object) -> None:
        await self.connection.send(json.dumps({"type": kind, "timestamp": TIMESTAMP, **fields, "data": data}))

    async def welcome(
        self,
        epoch: str,
        seq: int,
        *,
        resumed: bool = False,
        heartbeat_s: float = 10.0,
        subscriptions: Sequence[str] = ("*",),
    ) -> None:
        data = {
            "client_id": "c1",
            "protocol": 1,
            "server": "scripted/1",
            "epoch": epoch,
            "seq": seq,
            "resumed": resumed,
            "subscriptions": list(subscriptions),
            "heartbeat_interval_s": heartbeat_s,
        }
        await self.send("welcome", data)

    async def synced(self, epoch: str, seq: int) -> None:
        await self.send("synced", {"epoch": epoch, "seq": seq})

    async def asked(self) -> list[str]:
        """The patterns of the subscribe that comes next; pings are passed over."""
        while (message := json.loads(await self.connection.recv()))["type"] == "ping":
            pass
        assert message["type"] == "subscribe"
        types: list[str] = message["data"]["types"]
        return types

    async def subscribed(self, epoch: str, seq: int, types: Sequence[str], added: Sequence[str]) -> None:
        await self.send("subscribed", {"types": list(types), "added": list(added), "epoch": epoch, "seq": seq})

    async def heartbeat(self, epoch: str, seq: int) -> None:
        await self.send("heartbeat", {"epoch": epoch, "seq": seq, "uptime_s": 1.0, "clients": 1})

    async def answer_ping(self) -> None:
        """Answer the ping message that follows a welcome."""
        assert json.loads(await self.connection.recv())["type"] == "ping"
        await self.send("pong", {})

    async def close(self, code: int, reason: str = "") -> None:
        await self.connection.close(code, reason)

    def abort(self) -> None:
        self.connection.transport.abort()

    async def stay(self) -> None:
        """Keep the connection open until the client leaves."""
        await self.connection.wait_closed()


class Gateway:
    """Plays `scripts`, one per connection, the last one for ever. `requests` are the paths asked for."""

    def __init__(self, scripts: list[Script | Response]) -> None:
        self._scripts = scripts
        self.requests: list[str] = []
        self.headers: list[dict[str, Any]] = []
        self.url = ""

    def on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request.path)
        self.headers.append(dict(request.headers.raw_items()))
        script = self._script()
        return script if isinstance(script, Response) else None

    async def on_connection(self, connection: ServerConnection) -> None:
        script = self._script()
        assert not isinstance(script, Response)
        await script(Peer(connection))

    def _script(self) -> Script | Response:
        return self._scripts[min(len(self.requests), len(self._scripts)) - 1]


@asynccontextmanager
async def scripted(*scripts: Script | Response) -> AsyncIterator[Gateway]:
    """Serve `scripts` on a free port."""
    gateway = Gateway(list(scripts))
    async with serve(
        gateway.on_connection, "127.0.0.1", 0, process_request=gateway.on_request, compression=None, close_timeout=1
    ) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        gateway.url = f"http://{host}:{port}"
        yield gateway
        await asyncio.sleep(0)


def problem(status: int, detail: str, **headers: str) -> Response:
    """An HTTP refusal."""
    body = msgspec.json.encode({"status": status, "title": "title", "detail": detail})
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, "Reason", Headers({**names, "Content-Length": str(len(body))}), body)
