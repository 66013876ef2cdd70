"""One HTTP request to a backend and its whole, bounded answer. Knows nothing of what requests and answers mean."""

import asyncio
import time
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import aiohttp
from yarl import URL

from tidegate.adapters.backends.failures import Lost, mapped, status_error
from tidegate.adapters.backends.options import HttpOptions, address, authorization, fixed_headers, peer, tls_context
from tidegate.errors import Disconnected, InvalidResponse

TLS_GOODBYE_S = 0.1
"""How long a TLS connection that we close waits for the server to agree, in seconds."""

ConnectorFactory = Callable[[], aiohttp.BaseConnector]
"""Makes what opens connections; called once, inside the running event loop."""


class Exchange:
    """A pool of keep-alive connections to one backend.

    Reading stops at the first byte past `response_bytes`; redirects, cookies, proxies of the environment and
    compressed bodies are not followed, kept, used or unpacked.

    A connection that waited in the pool may have been closed by the server a moment before it is used again. A
    request whose *reused* connection ends before the head of an answer has come is therefore sent again, at once,
    until it has a new connection: a server that closes idle connections closes all of them. That is safe for what is
    polled, which is repeatable by nature, and is part of the same call: one permit, one deadline, one verdict. A new
    connection that ends like this is a failure, and nothing else is ever repeated.

    Raises `ConfigError` for an address, authority or certificate that cannot be used.
    """

    def __init__(
        self,
        options: HttpOptions,
        *,
        wall_clock: Callable[[], float] = time.time,
        connector_factory: ConnectorFactory | None = None,
    ) -> None:
        self.url = address(options)
        self._options = options
        self._peer = peer(self.url)
        self._wall_clock = wall_clock
        self._new_connector = connector_factory or self._tcp_connector
        self._tls = tls_context(options) if self.url.scheme == "https" else True
        self._headers = fixed_headers(options)
        self._session: aiohttp.ClientSession | None = None
        self._in_flight: set[asyncio.Timeout] = set()
        self._closed = False

    async def credentials(self) -> dict[str, str]:
        """The headers that say who asks, for one request. Raises `NoCredentials`."""
        return await authorization(self._options)

    async def fetch(
        self, method: str, url: URL, body: bytes | None = None, *, credentials: Mapping[str, str]
    ) -> bytearray:
        """The body of the answer to one request, whose HTTP status was a success.

        Raises `HttpStatus`, `Disconnected` or `InvalidResponse` (too large, compressed, no HTTP).
        Waits as long as it takes; cancelling closes the connection and leaves nothing behind.
        """
        leash = asyncio.timeout(None)
        try:
            with mapped(self._peer):
                async with leash:
                    self._in_flight.add(leash)
                    async with await self._respond(method, url, body, dict(credentials)) as response:
                        return await self._read(response)
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
        if self._session is not None:
            await self._session.close()

    async def _respond(
        self, method: str, url: URL, body: bytes | None, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        if body is not None and "Content-Type" not in self._headers:
            headers["Content-Type"] = "application/json"
        while True:
            attempt = _Attempt()
            try:
                return await self._request(method, url, body, headers, attempt)
            except Lost as lost:
                if lost.answer_begun or not attempt.on_reused_connection:
                    raise

    async def _request(
        self, method: str, url: URL, body: bytes | None, headers: dict[str, str], attempt: "_Attempt"
    ) -> aiohttp.ClientResponse:
        return await self._opened().request(
            method, url, data=body, headers=headers, allow_redirects=False, ssl=self._tls, trace_request_ctx=attempt
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytearray:
        if not 200 <= response.status < 300:
            retry_after = response.headers.get("Retry-After")
            raise status_error(self._peer, response.status, retry_after, wall=self._wall_clock())
        coding = response.headers.get("Content-Encoding", "identity")
        if coding.lower() != "identity":
            raise InvalidResponse(f"{self._peer}: expected an uncompressed body, got Content-Encoding {coding[:32]!r}")
        limit = self._options.response_bytes
        body = bytearray()
        length = response.content_length or 0
        if length <= limit:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit:
                    break
            else:
                return body
        got = length or "more"
        raise InvalidResponse(f"{self._peer}: expected an answer of at most {limit} bytes, got {got}")

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Disconnected(f"{self._peer}: the gateway closed the connection")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._new_connector(),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
                auto_decompress=False,
                trace_configs=[_noting_reuse()],
                middlewares=[_sent_once],
            )
        return self._session

    def _tcp_connector(self) -> aiohttp.BaseConnector:
        # What cancelling promises needs two things. Without aiohttp's own DNS cache a lookup ends with the call that
        # waits for it. Without a limit of our own, deprecated but with no successor, a TLS connection stays open for
        # 30 s where the server has stopped and never says goodbye.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return aiohttp.TCPConnector(
                limit=self._options.connections,
                resolver=aiohttp.ThreadedResolver(),
                use_dns_cache=False,
                ssl_shutdown_timeout=TLS_GOODBYE_S,
            )


class _Attempt:
    """What the trace notes of one request on the wire."""

    __slots__ = ("on_reused_connection",)

    def __init__(self) -> None:
        self.on_reused_connection = False


def _noting_reuse() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.on_reused_connection = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(note)
    return trace


async def _sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET by itself: it repeats after its own errors only, never after `Lost`."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        head = exc.message if isinstance(exc, aiohttp.ServerDisconnectedError) else ""
        raise Lost(answer_begun=not isinstance(head, str)) from exc
