"""An HTTP backend whose answers a test steers, at one port for good: it answers, fails, hangs, or is not there."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from scripted_http import Peer, http_response

Mode = Literal["answers", "fails", "hangs"]


@dataclass(frozen=True)
class Answer:
    """An answer that was given, `at` a Unix time."""

    at: float
    path: str
    value: Any


class SteeredBackend:
    """For backends with ``protocol = "http"``: the path of a request names the value.

    A path in `values` is answered with that value, one in `broken` with status 500, and one in `silent` never. A
    callable value is called for each answer. `given` lists the answers so far. `mode` is how it treats them all.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = dict(values)
        self.broken: set[str] = set()
        self.silent: set[str] = set()
        self.given: list[Answer] = []
        self.mode: Mode = "answers"
        self.port = 0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def steer(self, mode: Mode) -> None:
        """From now on it answers, fails with status 500, or takes requests and stays silent."""
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Accept connections, at the same port as before."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Be gone: reset the connections, and refuse new ones until `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        talks = dict(self._talks)
        for task, writer in talks.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*talks)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks[task] = writer
        peer = Peer(reader, writer, 0)
        try:
            with contextlib.suppress(EOFError, OSError, asyncio.CancelledError):
                while True:
                    path = (await peer.request()).line.split()[1]
                    await peer.send(await self._answer(path))
        finally:
            self._talks.pop(task)
            writer.close()

    async def _answer(self, path: str) -> bytes:
        while self.mode == "hangs" or path in self.silent:
            await self._changed.wait()
        if self.mode == "fails" or path in self.broken or path not in self.values:
            return http_response(b"it hurts", status="500 Internal Server Error")
        value = self.values[path]
        value = value() if callable(value) else value
        self.given.append(Answer(time.time(), path, value))
        return http_response(msgspec.json.encode(value), headers="Content-Type: application/json\r\n")


def counting(first: int = 1) -> Callable[[], int]:
    """A value that is another one each time it is asked for."""
    numbers = itertools.count(first)
    return lambda: next(numbers)


@contextlib.asynccontextmanager
async def steered(values: Mapping[str, object]) -> AsyncIterator[SteeredBackend]:
    """A backend that listens, and is gone at the end."""
    backend = SteeredBackend(values)
    await backend.listen()
    try:
        yield backend
    finally:
        await backend.refuse()
