"""A backend of which a test decides every byte, on a real socket."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader = reader
        self._writer = writer
        self.number = number
        self.requests: list[Request] = []

    async def request(self) -> Request:
        """The next request on this connection. Raises `EOFError` when the client has closed it."""
        line, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in fields if text)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(line, headers, body))
        return self.requests[-1]

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until_closed(self) -> None:
        """Return once the client has closed or reset the connection."""
        with contextlib.suppress(OSError):
            while await self._reader.read(65_536):
                pass

    async def read(self) -> bytes:
        """What comes next. Raises `EOFError` when the client has closed the connection."""
        data = await self._reader.read(65_536)
        if not data:
            raise EOFError
        return data

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        option = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[object]]


@dataclass
class ScriptedServer:
    """Runs its script once for each connection; the connection ends with the script."""

    port: int
    scheme: str
    peers: list[Peer] = field(default_factory=list)
    open_connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/rpc"

    @property
    def requests(self) -> list[Request]:
        return [request for peer in self.peers for request in peer.requests]


@contextlib.asynccontextmanager
async def scripted(
    script: Script, *, tls: ssl.SSLContext | None = None, path: Path | None = None
) -> AsyncIterator[ScriptedServer]:
    """Serve `script` on a free port of 127.0.0.1, or on a Unix socket; at the end every connection is closed."""
    talks: set[asyncio.Task[None]] = set()
    server = ScriptedServer(port=0, scheme="https" if tls else "http")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        peer = Peer(reader, writer, len(server.peers))
        server.peers.append(peer)
        server.open_connections += 1
        try:
            with contextlib.suppress(EOFError, OSError, asyncio.CancelledError):
                await script(peer)
        finally:
            server.open_connections -= 1
            writer.close()
            talks.discard(task)

    if path is None:
        listener = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
        server.port = listener.sockets[0].getsockname()[1]
    else:
        listener = await asyncio.start_unix_server(talk, path, ssl=tls)
    try:
        yield server
    finally:
        listener.close()
        for task in list(talks):
            task.cancel()
        await asyncio.gather(*talks)


def http_response(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer with its length; `headers` are lines that end in CRLF."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def answering(*answers: bytes) -> Script:
    """A script that gives `answers` to the requests of each connection, the last one for ever."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)
        while True:
            await peer.request()
            await peer.send(answers[-1])

    return script


async def hanging(peer: Peer) -> None:
    """A script that takes a request and never answers."""
    await peer.request()
    await peer.until_closed()


def stopping_over_tls(context: ssl.SSLContext) -> Script:
    """A script, for a plain server, that does TLS up to the first byte of a request and then answers nothing more.

    It takes in what comes, as the kernel does for a process that has stopped, but no goodbye of TLS is answered.
    """

    async def script(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.read(1)
                break
            except ssl.SSLWantReadError:
                await peer.send(outgoing.read())
                incoming.write(await peer.read())
        peer.requests.append(Request("", {}, b""))
        await peer.until_closed()

    return script
