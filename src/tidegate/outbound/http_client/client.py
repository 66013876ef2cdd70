"""Makes one HTTP request to a backend and reads its whole answer. Knows nothing of what requests and answers mean."""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self, TypeVar

import msgspec
from multidict import CIMultiDict
from yarl import URL

from tidegate.errors import Disconnected, HttpStatus, InvalidResponse
from tidegate.outbound.http_client.answer import AnswerReader
from tidegate.outbound.http_client.connecting import Connect, connected
from tidegate.outbound.http_client.destinations import Destination, destination
from tidegate.outbound.http_client.failures import Lost, mapped, status_error
from tidegate.outbound.http_client.options import (
    HttpOptions,
    encoded,
    fixed_headers,
    keeps_connections,
    merged,
    request_target,
)
from tidegate.outbound.http_client.pool import Attempt, Pool
from tidegate.outbound.http_client.proxying import AUTHORIZATION
from tidegate.secret import Secret

_T = TypeVar("_T")

_REQUEST_TIMEOUT = 408


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer. `refusal` is the error for its status, None if that is a success."""

    body: bytearray
    refusal: HttpStatus | None = None
    content_type: str | None = None

    def of_success(self) -> Self:
        """Return it, if its status is a success; otherwise raise `refusal`."""
        if self.refusal is not None:
            raise self.refusal
        return self


class HttpClient:
    """HTTP requests to one backend, over keep-alive connections. Opens as many as the caller has concurrent calls.

    Reading stops at the first byte past `response_bytes`. Redirects are not followed, cookies are not kept, proxy
    settings of the environment are ignored, and compressed bodies are refused.

    A server may close an idle connection just before it is reused. So if a *reused* connection ends before any byte of
    the answer, the request is repeated immediately, until it gets a new connection: a server that closes one idle
    connection usually closes all. If the answer on a reused connection is 408, which some servers send before they
    close an idle connection, the request is repeated once, on a new one. Repeating is safe, because polls only read.
    It is part of the same call: one permit, one timeout, one verdict. On a new connection the same is a failure, and
    nothing else is ever repeated.

    Raises `ConfigError` for a URL, socket, proxy, CA file or certificate that cannot be used.
    """

    def __init__(
        self, options: HttpOptions, *, wall_clock: Callable[[], float] = time.time, connect: Connect = connected
    ) -> None:
        self._to = destination(options)
        self.url = self._to.url
        self._options = options
        self._peer = self._to.peer
        self._wall_clock = wall_clock
        self._headers = fixed_headers(options)
        self._pool = Pool(
            connect,
            idle_s=options.idle_s if keeps_connections(self._headers) else 0.0,
            age_s=options.connection_max_s,
        )
        self._in_flight: set[asyncio.Timeout] = set()
        self._closed = False

    def keep_idle(self, idle_s: float) -> None:
        """See `Pool.keep_idle`."""
        self._pool.keep_idle(idle_s)

    async def fetch(
        self,
        method: str,
        url: URL,
        body: bytes | None = None,
        *,
        credentials: Mapping[str, str],
        attempt: Attempt | None = None,
    ) -> bytearray:
        """Make one request and return the body of its answer.

        Raises `HttpStatus` if the status is not a success, and what `ask` raises.
        """
        answer = await self.ask(method, url, body, credentials=credentials, attempt=attempt)
        return answer.of_success().body

    async def ask(
        self,
        method: str,
        url: URL,
        body: bytes | None = None,
        *,
        credentials: Mapping[str, str],
        attempt: Attempt | None = None,
        success_statuses: frozenset[int] = frozenset(),
    ) -> HttpAnswer:
        """Make one request and return its answer. `credentials` are headers for it alone.

        They are headers; others that belong to this request may be among them. A status is a success if it is one of
        `success_statuses`, or, if these are empty, 2xx. `attempt` is told about each attempt to connect. The last one
        says whether the connection stood.

        If the status is not a success, the body is read only as far as `answer.REFUSAL_BYTES` and
        `connection.REFUSAL_S` allow; it is empty if it is longer or encoded.

        Raises `Disconnected`, or `InvalidResponse` (too large, compressed, not HTTP).
        Has no timeout. Cancelling closes the connection and leaves nothing behind.
        """
        reader = functools.partial(AnswerReader, body_bytes=self._options.response_bytes, successes=success_statuses)
        headers = CIMultiDict(credentials)
        return await self._until_closed(self._answer(method, url, body, headers, attempt or Attempt(), reader))

    async def knock(self, credentials: Mapping[str, str] | None = None) -> None:
        """Make a connection, and keep it for the next request, but not longer than `pool.KNOCKED_S` seconds.

        Nothing is sent, but to a proxy that has to make a tunnel, which may need `credentials`: the next request does
        TLS, if the URL says so. Raises `Disconnected` if there is none, and `HttpStatus` (407) if the proxy refuses.
        Has no timeout. Cancelling leaves nothing behind.
        """
        await self._until_closed(self._knock(credentials or {}))

    async def aclose(self) -> None:
        """Close all connections. Calls in flight, and all later ones, raise `Disconnected`."""
        if self._closed:
            return
        self._closed = True
        for timeout in self._in_flight:
            timeout.reschedule(0.0)  # ends calls that are still connecting, which the pool does not know
        await self._pool.aclose()

    async def _until_closed(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do `work` and map its errors. When the client is closed, end it with `Disconnected`."""
        timeout = asyncio.timeout(None)  # never expires by itself: `aclose` makes it expire
        try:
            with mapped(self._peer):
                async with timeout:
                    self._in_flight.add(timeout)
                    return await work
        except Disconnected as exc:
            if self._closed:
                raise Disconnected(f"{self._peer}: the gateway closed the connection") from exc
            raise
        finally:
            self._in_flight.discard(timeout)

    def _check_open(self) -> None:
        if self._closed:
            raise Disconnected(f"{self._peer}: the gateway closed the connection")

    async def _knock(self, credentials: Mapping[str, str]) -> None:
        self._check_open()
        to, _ = self._sent(credentials)
        await self._pool.knock(to)
        if self._closed:  # just now
            self._pool.clear()
            self._check_open()

    async def _answer(
        self,
        method: str,
        url: URL,
        body: bytes | None,
        headers: CIMultiDict[str],
        attempt: Attempt,
        answer_reader: Callable[[], AnswerReader],
    ) -> HttpAnswer:
        if body is not None and "Content-Type" not in self._headers:
            headers.setdefault("Content-Type", "application/json")
        to, fields = self._sent(headers)
        absolute = to.proxy is not None and not to.is_tunnelled
        request = encoded(method, request_target(url, absolute=absolute), fields, body)
        return self._read(url, await self._respond(to, request, attempt, answer_reader))

    def _sent(self, headers: Mapping[str, str]) -> tuple[Destination, CIMultiDict[str]]:
        """Return where to connect, and which headers to send there, if a request adds `headers` to the fixed ones."""
        fields = merged(self._headers, headers)
        if not self._to.is_tunnelled:
            return self._to, fields
        authorization = fields.pop(AUTHORIZATION, None)  # not for the backend, which would see it in the tunnel
        secret = None if authorization is None else Secret(authorization)
        return msgspec.structs.replace(self._to, authorization=secret), fields

    async def _respond(
        self, to: Destination, request: bytes, attempt: Attempt, answer_reader: Callable[[], AnswerReader]
    ) -> AnswerReader:
        new = False
        while True:
            reader = answer_reader()
            was_reused = await self._attempt(to, request, reader, attempt, new=new)
            attempt.fields = reader.fields
            if reader.whole and not (reader.status == _REQUEST_TIMEOUT and was_reused):
                return reader
            new = reader.whole

    async def _attempt(
        self, to: Destination, request: bytes, reader: AnswerReader, attempt: Attempt, *, new: bool
    ) -> bool:
        """Make one attempt. Returns whether the connection was a reused one.

        If it was, and `reader` is not whole, the caller must try again.
        """
        self._check_open()
        connection = await self._pool.take(to, attempt, new=new)
        is_reused = connection.is_reused
        try:
            await connection.ask(request, reader)
        except Lost as lost:
            if lost.answer_begun or not is_reused:
                raise
        except asyncio.CancelledError:
            # Probably the timeout. If this connection leads to a host that is gone, so do the other idle ones.
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
        return HttpAnswer(reader.body, content_type=reader.field("Content-Type"))


def _joined(url: URL, location: str | None) -> URL | None:
    """Resolve a ``Location`` field against `url`. None without the field, or if it is not an HTTP URL."""
    try:
        joined = url.join(URL(location or ""))
    except ValueError:
        return None
    host = joined.raw_host or " "
    return (
        joined if location and joined.scheme in {"http", "https"} and host.isprintable() and " " not in host else None
    )
