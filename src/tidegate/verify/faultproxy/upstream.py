"""The connection to upstream that belongs to one client's connection."""

import asyncio
import collections
import contextlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidegate.verify.faultproxy.calls import How
from tidegate.verify.faultproxy.delivery import Cut
from tidegate.verify.faultproxy.framing import BadHttp, End, Part, Request, ResponseHead, ResponseReader

_READ_BYTES: Final = 65536


class Address(msgspec.Struct, frozen=True):
    """The address of upstream."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Parse ``http://HOST[:PORT]``. Raises `ValueError` for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise ValueError(f"expected an upstream of the form http://HOST:PORT, got {url[:200]!r}")
        return cls(parts.hostname, parts.port or 80)


class Upstream:
    """A connection that is opened when it is needed, and again after upstream has closed it.

    Every failure of upstream raises `Cut`, so that the client's connection breaks as one to upstream would.
    """

    __slots__ = ("_address", "_parts", "_reader", "_response", "_writer")

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._response = ResponseReader(bodiless=False)
        self._parts: collections.deque[Part] = collections.deque()

    async def ask(self, request: Request, *, without: frozenset[bytes] = frozenset()) -> ResponseHead:
        """Send `request` without the headers in `without`. Return the head of the answer; `read` returns its body."""
        self._response = ResponseReader(bodiless=request.method == "HEAD")
        with _failing_as_cut():
            if self._reader is None or self._reader.at_eof():
                await self._open()
            await self.write(request.encode(without=without))
            head = await self._next()
        assert isinstance(head, ResponseHead), "a reader gives the head first"
        return head

    async def read(self) -> bytes:
        """Return the next piece of the answer's body, or of the stream after an upgrade; empty at the end."""
        with _failing_as_cut():
            part = await self._next()
        return part if isinstance(part, bytes) else b""

    async def write(self, data: bytes) -> None:
        """Send bytes of an upgraded connection. Waits until upstream has room for them."""
        assert self._writer is not None, "there was an answer on this connection"
        with _failing_as_cut():
            self._writer.write(data)
            await self._writer.drain()

    def write_eof(self) -> None:
        """Tell upstream that the client will send no more."""
        if self._writer is not None and self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    async def aclose(self) -> None:
        """Close the connection without waiting for pending data."""
        if self._writer is None:
            return
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self._reader = self._writer = None

    async def _open(self) -> None:
        await self.aclose()
        self._reader, self._writer = await asyncio.open_connection(self._address.host, self._address.port)

    async def _next(self) -> Part:
        assert self._reader is not None, "a request was sent on it"
        while not self._parts:
            data = await self._reader.read(_READ_BYTES)
            self._parts.extend(self._response.feed(data) if data else self._response.eof() or [End.END])
        return self._parts.popleft()


@contextlib.contextmanager
def _failing_as_cut() -> Iterator[None]:
    try:
        yield
    except (OSError, BadHttp) as error:
        raise Cut(How.UPSTREAM_FAILED) from error
