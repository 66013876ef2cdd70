"""Servers of JSON-RPC over persistent connections, which a test scripts message by message."""

import asyncio
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scripted_http
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.persistent.backend import RpcBackend
from tidegate.outbound.backends.persistent.options import RpcOptions, RpcSession
from tidegate.outbound.backends.rpc_messages import Version
from tidegate.outbound.http_client import HttpOptions


class RpcPeer:
    """The server's end of one connection. `received` are the messages so far."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.received: list[Any] = []

    async def message(self) -> Any:
        """The next message. Raises `EOFError` when the client has left."""
        self.received.append(json.loads(await self._next()))
        return self.received[-1]

    async def answer(self, result: object = None) -> Any:
        """Answer the next call with `result`, and return the call."""
        call = await self.message()
        await self.send({"jsonrpc": "2.0", "id": call["id"], "result": result})
        return call

    async def send(self, message: object) -> None:
        await self.send_raw(message if isinstance(message, bytes) else json.dumps(message).encode())

    async def notify(self, method: str, params: object = None) -> None:
        await self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def until_closed(self) -> None:
        with contextlib.suppress(EOFError):
            while True:
                await self.message()

    async def _next(self) -> bytes:
        raise NotImplementedError

    async def send_raw(self, data: bytes) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        raise NotImplementedError


Script = Callable[[Any], Awaitable[object]]


class StreamPeer(RpcPeer):
    def __init__(self, peer: scripted_http.Peer) -> None:
        super().__init__(peer.number)
        self.peer = peer
        self._text = ""

    async def _next(self) -> bytes:
        while True:
            try:
                _, end = json.JSONDecoder().raw_decode(self._text)
            except ValueError:
                self._text += (await self.peer.read()).decode()
                continue
            text, self._text = self._text[:end], self._text[end:]
            return text.encode()

    async def send_raw(self, data: bytes) -> None:
        await self.peer.send(data)

    def reset(self) -> None:
        self.peer.reset()


class WebSocketPeer(RpcPeer):
    def __init__(self, connection: ServerConnection, number: int) -> None:
        super().__init__(number)
        self.connection = connection

    async def _next(self) -> bytes:
        try:
            message = await self.connection.recv()
        except ConnectionClosed as exc:
            raise EOFError from exc
        return message.encode() if isinstance(message, str) else message

    async def send_raw(self, data: bytes) -> None:
        await self.connection.send(data, text=True)

    def reset(self) -> None:
        self.connection.transport.abort()


@dataclass
class RpcServer:
    """A server under test. `peers` are its connections, in their order."""

    url: str = ""
    peers: list[Any] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    refusal: Response | None = None

    @property
    def received(self) -> list[Any]:
        return [message for peer in self.peers for message in peer.received]


@contextlib.asynccontextmanager
async def stream(script: Script, *, path: Path | None = None) -> AsyncIterator[RpcServer]:
    """Serve `script` over TCP, or on a Unix socket, without any delimiter between messages.

    A connection ends with the script.
    """
    found = RpcServer()

    async def talk(peer: scripted_http.Peer) -> None:
        found.peers.append(StreamPeer(peer))
        await script(found.peers[-1])

    async with scripted_http.scripted(talk, path=path) as server:
        found.url = f"tcp://127.0.0.1:{server.port}" if path is None else f"unix://{path}"
        yield found


@contextlib.asynccontextmanager
async def unix(script: Script) -> AsyncIterator[RpcServer]:
    """Serve `script` as `stream` does, on a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        async with stream(script, path=Path(folder, "s")) as found:
            yield found


@contextlib.asynccontextmanager
async def websocket(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RpcServer]:
    """Serve `script` over WebSocket. A connection ends with the script."""
    found = RpcServer()

    def process(_: ServerConnection, request: Request) -> Response | None:
        found.requests.append(request)
        return found.refusal

    async def talk(connection: ServerConnection) -> None:
        peer = WebSocketPeer(connection, len(found.peers))
        found.peers.append(peer)
        with contextlib.suppress(EOFError, ConnectionClosed):
            await script(peer)

    async with serve(
        talk, "127.0.0.1", 0, ssl=tls, compression=None, process_request=process, close_timeout=0.2, ping_interval=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        found.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/api"
        yield found


KINDS = {"stream": stream, "unix": unix, "websocket": websocket}
"""Each way in which JSON-RPC is carried here."""


@contextlib.asynccontextmanager
async def rpc_backend(
    server: RpcServer,
    *,
    session: RpcSession | None = None,
    version: Version = "2.0",
    credentials: Callable[[], Credentials] = Credentials,
    **http: Any,
) -> AsyncIterator[RpcBackend]:
    """The backend for `server`; `http` are the other settings of the connection."""

    async def read() -> Credentials:
        return credentials()

    options = RpcOptions(http=HttpOptions(url=server.url, **http), version=version, session=session or RpcSession())
    backend = RpcBackend(options, read)
    try:
        yield backend
    finally:
        async with asyncio.timeout(5):
            await backend.aclose()
