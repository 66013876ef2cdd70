"""One HTTP request to a backend and its whole, bounded answer. Knows nothing of what requests and answers mean."""

import asyncio
import time
from collections.abc import Callable, Mapping

import msgspec
from yarl import URL

from tidegate.errors import Disconnected, HttpStatus, InvalidResponse
from tidegate.outbound.http_client.answer import AnswerReader
from tidegate.outbound.http_client.connection import Connect, connected
from tidegate.outbound.http_client.failures import Lost, mapped, status_error
from tidegate.outbound.http_client.options import (
    HttpOptions,
    address,
    authorization,
    encoded,
    fixed_headers,
    keeps_connections,
    peer,
    tls_context,
)
from tidegate.outbound.http_client.pool import Pool

_REQUEST_TIMEOUT = 408


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer. `refusal` is the error that its status means, None for a success."""

    body: bytearray
    refusal: HttpStatus | None = None


class HttpClient:
    """A pool of keep-alive connections to one backend. As many are open as the caller has calls under way.

    Reading stops at the first byte past `response_bytes`; redirects, cookies, proxies of the environment and
    compressed bodies are not followed, kept, used or unpacked.

    A connection that waited in the pool may have been closed by the server a moment before it is used again. A
    request whose *reused* connection ends before anything of an answer has come is therefore sent again, at once,
    until it has a new connection: a server that closes idle connections closes all of them. One that is answered 408
    on a reused connection, which is how some servers say goodbye to an idle one, is sent again once, on a new one.
    That is safe for what is polled, which is repeatable by nature, and is part of the same call: one permit, one
    deadline, one verdict. A new connection that ends like this is a failure, and nothing else is ever repeated.

    Raises `ConfigError` for an address, authority or certificate that cannot be used.
    """

    def __init__(
        self, options: HttpOptions, *, wall_clock: Callable[[], float] = time.time, connect: Connect = connected
    ) -> None:
        self.url = address(options)
        self._options = options
        self._peer = peer(self.url)
        self._wall_clock = wall_clock
        self._headers = fixed_headers(options)
        tls = tls_context(options) if self.url.scheme == "https" else None
        self._pool = Pool(
            lambda: connect(self.url, tls),
            idle_s=options.idle_s if keeps_connections(self._headers) else 0.0,
            age_s=options.connection_max_s,
        )
        self._in_flight: set[asyncio.Timeout] = set()
        self._closed = False

    async def credentials(self) -> dict[str, str]:
        """The headers that say who asks, for one request. Raises `NoCredentials`."""
        return await authorization(self._options)

    async def fetch(
        self, method: str, url: URL, body: bytes | None = None, *, credentials: Mapping[str, str]
    ) -> bytearray:
        """The body of the answer to one request, whose HTTP status was a success.

        Raises `HttpStatus` for another, and what `ask` raises.
        """
        answer = await self.ask(method, url, body, credentials=credentials)
        if answer.refusal is not None:
            raise answer.refusal
        return answer.body

    async def ask(
        self, method: str, url: URL, body: bytes | None = None, *, credentials: Mapping[str, str]
    ) -> HttpAnswer:
        """The answer to one request, sent with `credentials` as one of its own gave them.

        Of an answer whose status is no success the body is read as far as `answer.REFUSAL_BYTES` and
        `connection.REFUSAL_S` allow; it is empty if it is longer or coded.

        Raises `Disconnected` or `InvalidResponse` (too large, compressed, no HTTP).
        Waits as long as it takes; cancelling closes the connection and leaves nothing behind.
        """
        leash = asyncio.timeout(None)
        try:
            with mapped(self._peer):
                async with leash:
                    self._in_flight.add(leash)
                    return self._read(url, await self._respond(method, url, body, dict(credentials)))
        except Disconnected as exc:
            if self._closed:
                raise Disconnected(f"{self._peer}: the gateway closed the connection") from exc
            raise
        finally:
            self._in_flight.discard(leash)

    async def aclose(self) -> None:
        """Close every connection, those of calls in flight too: they end with `Disconnected`, as later calls do."""
        if self._closed:
            return
        self._closed = True
        for leash in self._in_flight:
            leash.reschedule(0.0)
        await self._pool.aclose()

    async def _respond(self, method: str, url: URL, body: bytes | None, headers: dict[str, str]) -> AnswerReader:
        if body is not None and "Content-Type" not in self._headers:
            headers["Content-Type"] = "application/json"
        request = encoded(method, url, self._headers, headers, body)
        new = False
        while True:
            reader = AnswerReader(body_bytes=self._options.response_bytes)
            was_reused = await self._attempt(request, reader, new=new)
            if reader.whole and not (reader.status == _REQUEST_TIMEOUT and was_reused):
                return reader
            new = reader.whole

    async def _attempt(self, request: bytes, reader: AnswerReader, *, new: bool) -> bool:
        """Ask once. Whether it was on a reused connection: then, if `reader` is not whole, it is to be asked again."""
        if self._closed:
            raise Disconnected(f"{self._peer}: the gateway closed the connection")
        connection = await self._pool.take(new=new)
        is_reused = connection.is_reused
        try:
            await connection.ask(request, reader)
        except Lost as lost:
            if lost.answer_begun or not is_reused:
                raise
        except asyncio.CancelledError:
            # Too late: where a kept connection leads to nobody any more, the others that are kept lead there as well.
            if is_reused:
                self._pool.clear()
            raise
        finally:
            self._pool.give_back(connection)
        return is_reused

    def _read(self, url: URL, reader: AnswerReader) -> HttpAnswer:
        codings = reader.codings
        if not reader.is_success:
            refusal = status_error(
                self._peer,
                reader.status,
                reader.field("Retry-After"),
                wall=self._wall_clock(),
                location=_joined(url, reader.field("Location")),
            )
            return HttpAnswer(bytearray() if codings else reader.body, refusal)
        if codings:
            raise InvalidResponse(f"{self._peer}: expected an uncompressed body, got coding {codings[0][:32]!r}")
        return HttpAnswer(reader.body)


def _joined(url: URL, location: str | None) -> URL | None:
    """Where a ``Location`` field points to from `url`; None without one, and for text that is no HTTP address."""
    try:
        joined = url.join(URL(location or ""))
    except ValueError:
        return None
    host = joined.raw_host or " "
    return (
        joined if location and joined.scheme in {"http", "https"} and host.isprintable() and " " not in host else None
    )
