"""A cable between a browser and a gateway that a test unplugs: bytes stop, and nobody is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PIECE = 65_536


class Cable:
    """Connections to `url` are passed on to the port `upstream`, while the cable is plugged in."""

    def __init__(self, upstream: int) -> None:
        self.url = ""
        self._upstream = upstream
        self._plugged = asyncio.Event()
        self._plugged.set()
        self._talks: set[asyncio.Task[None]] = set()

    def unplug(self) -> None:
        """From now on nothing passes: what is sent waits, and a new connection is never answered."""
        self._plugged.clear()

    def plug_in(self) -> None:
        """What waited passes, as TCP would send it again."""
        self._plugged.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._talk(reader, writer)
        finally:
            writer.transport.abort()
            self._talks.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._plugged.wait()
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            await asyncio.gather(self._passes(reader, there_writer), self._passes(there_reader, writer))
        finally:
            there_writer.transport.abort()

    async def _passes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            await self._plugged.wait()
            writer.write(data)
            await writer.drain()
        await self._plugged.wait()
        writer.write_eof()

    async def aclose(self) -> None:
        talks = list(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks)


@asynccontextmanager
async def cable(to: int) -> AsyncIterator[Cable]:
    """A cable to a port of this machine, plugged in."""
    it = Cable(to)
    server = await asyncio.start_server(it.accept, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        await it.aclose()
