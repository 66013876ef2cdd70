"""The listening socket: uvicorn's HTTP protocol, with the limits that it lacks, and an orderly end.

uvicorn's own server object is not used: it takes over the process's signals and closes its listener before clients
are drained. Knows nothing of routes, events or clients.
"""

import asyncio
import functools
import socket
import ssl as tls
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, cast

import httptools
import structlog
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tidegate import files
from tidegate.core.intake import HELD_BYTES, Intake
from tidegate.core.problem import MEDIA_TYPE, problem
from tidegate.errors import ConfigError, Problem, RefusalReason
from tidegate.runtime.access import LOCAL_ADDRESS, Request

HEAD_BYTES = 32768
"""Longest request head: request line and header fields. One piece of `PIECE_BYTES` may go beyond it."""

HEAD_FIELDS = 1000
"""Most fields of a request head: a field takes more memory than its few bytes on the wire."""

PIECE_BYTES = 16384
"""What is parsed before it is asked again whether that was too much."""

BODY_BYTES = 1048576
SLOW_GRACE_S = 10.0
FINISH_S = 5.0

KEEP_ALIVE_S = 75.0
"""Longer than proxies keep idle connections to us, so that they never send into one that we just closed."""

ABORTED_S = 1.0
"""How long a request may take to notice that its connection was aborted, before its task is cancelled."""

PIPELINED = 100
"""Requests that may wait on one connection for those before them."""

LINGER_S = 2.0
"""How long a connection whose request was refused is read on."""

BACKLOG = 65535
"""As many as the kernel allows (`net.core.somaxconn`): who finds no place tries again a second later, then three."""

TCP_NOTSENT_LOWAT = 25
NOTSENT_BYTES = 16384
"""What the kernel holds unsent before it says EAGAIN; without it a stuck reader hides 3.9 MB in the kernel."""

TCP_USER_TIMEOUT = 18
UNACKNOWLEDGED_MS = 40_000
"""A peer that took nothing for so long is gone, as is a WebSocket that answers no ping: the kernel waits 15 minutes."""

TRANSPORT = "tidegate.transport"

AsgiApp = Callable[[Any, Any, Any], Any]
Upgrade = Callable[[asyncio.Transport, str, str, Request], object]
"""Takes the connection of an upgrade request over: its transport, method, target and what else is asked."""

Refused = Callable[[RefusalReason, str], None]
"""Told of a connection that was ended before it had sent a whole request: why, and the address of its peer."""

log = structlog.get_logger("tidegate.http")


@asynccontextmanager
async def serve(
    app: AsgiApp,
    upgrade: Upgrade,
    *,
    sock: socket.socket,
    ssl: tls.SSLContext | None = None,
    handshake_s: float,
    body_bytes: int = BODY_BYTES,
    slow_grace_s: float = SLOW_GRACE_S,
    keep_alive_s: float = KEEP_ALIVE_S,
    finish_s: float = FINISH_S,
    refused: Refused = lambda _, __: None,
) -> AsyncIterator[None]:
    """Answer on `sock`, bound and not yet listening, while the context is open.

    `upgrade` answers each request for a WebSocket; `refused` is told of each head that is none, too large or late. A
    connection that has not sent a whole request head `handshake_s` seconds after it opened, or after its first byte of
    a later one, is closed; an idle one after `keep_alive_s`.
    No route reads a body of more than `body_bytes`: what a peer sends beyond that ends its connection
    (`tidegate.core.intake`). One that takes nothing of a whole answer for `slow_grace_s` is aborted; an answer in
    pieces is for whoever sends them to give up.

    On leaving, the socket is closed, then running responses have `finish_s` seconds to end, then connections are
    aborted. Upgraded connections are for whoever took them over to close.
    """
    _set_limits_of_kernel(sock)
    state = _State()
    _renew_headers(state)
    config = _config(app, keep_alive_s=keep_alive_s)
    idle = asyncio.Event()
    deadlines = Deadlines(handshake_s)
    first = HttpProtocol(
        config,
        state,
        upgrade,
        scheme="https" if ssl else "http",
        deadlines=deadlines,
        refused=refused,
        body_bytes=body_bytes,
        slow_grace_s=slow_grace_s,
        gone=functools.partial(_note_gone, state, idle),
    )
    listener = await asyncio.get_running_loop().create_server(
        first.another, sock=sock, ssl=ssl, ssl_handshake_timeout=handshake_s if ssl else None, backlog=BACKLOG
    )
    dating = asyncio.create_task(_keep_date(state))
    try:
        yield
    finally:
        dating.cancel()
        listener.close()
        await _finish(state, idle, finish_s)
        deadlines.cancel()


def tls_context(cert_file: Path, key_file: Path) -> tls.SSLContext:
    """What a TLS handshake with clients needs. Raises `ConfigError` for files that are no certificate and its key."""
    context = tls.create_default_context(tls.Purpose.CLIENT_AUTH)
    try:
        files.check(cert_file)
        files.check(key_file)
        # The empty password keeps OpenSSL from asking the terminal for one.
        context.load_cert_chain(cert_file, key_file, password="")
    except OSError as error:
        reason = error.reason if isinstance(error, tls.SSLError) else error.strerror
        got = f"{cert_file} and {key_file} ({reason or 'not usable'})"
        expected = "a PEM file with a certificate chain, and with tls_key_file its unencrypted key"
        raise ConfigError([Problem("server.tls_cert_file", expected, got)]) from error
    return context


def transport_of(scope: Mapping[str, Any]) -> asyncio.Transport:
    """The transport under an ASGI scope that came from here: to see what it holds unsent, or to abort it."""
    return cast("asyncio.Transport", scope["state"][TRANSPORT])


class Deadlines:
    """Ends the connections that have not sent a whole request head in time.

    All have the same `after_s`, so the first to come is the first to be due, and one timer serves them all.
    """

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self._loop = asyncio.get_running_loop()
        self._due: dict[HttpProtocol, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: "HttpProtocol") -> None:
        """Its time runs from now on, unless it does already."""
        if connection not in self._due:
            self._due[connection] = due = self._loop.time() + self.after_s
            if self._timer is None:
                self._timer = self._loop.call_at(due, self._end_overdue)

    def stop(self, connection: "HttpProtocol") -> None:
        """Its time does not run any more."""
        self._due.pop(connection, None)

    def cancel(self) -> None:
        """Nothing is ended any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _end_overdue(self) -> None:
        now = self._loop.time()
        for connection, _ in list(takewhile(lambda waiting: waiting[1] <= now, self._due.items())):
            del self._due[connection]
            connection.overdue()
        first = next(iter(self._due.values()), None)
        self._timer = None if first is None else self._loop.call_at(first, self._end_overdue)


class _State(ServerState):
    """What the connections of one server share."""

    def __init__(self) -> None:
        super().__init__()
        self.is_ending = False


class _Fault(Exception):
    """What a parser's callback raises to end the parsing: the answer to a request that is none."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection until it ends or becomes a WebSocket. `gone` is called at either."""

    def __init__(
        self,
        config: Config,
        state: _State,
        upgrade: Upgrade,
        *,
        scheme: Literal["http", "https"],
        deadlines: Deadlines,
        refused: Refused,
        body_bytes: int,
        slow_grace_s: float,
        gone: Callable[[], None],
    ) -> None:
        super().__init__(config, state, {})
        self._state = state
        self._note_refused = refused
        self._upgrade = upgrade
        self.scheme = scheme
        # Its lines would hold query strings, and tokens with them; it asks for a handler, not for its setting.
        self.access_log = False
        self._deadlines = deadlines
        self._body_bytes = body_bytes
        self._slow_grace_s = slow_grace_s
        self._gone = gone
        self.intake = Intake(body_bytes)
        self._upgraded = False
        self._refused = False
        self._in_message = self._in_head = self._new_head = False
        self._head_bytes = 0
        self._codings: list[bytes] = []
        self._stalled: asyncio.TimerHandle | None = None
        self._is_upgrade = self._is_ours = False
        self._running: RequestResponseCycle | None = None

    def another(self) -> "HttpProtocol":
        """One for a further connection of the same server; this one has none.

        uvicorn's constructor asks its configuration and the loggers for what is always the same.
        """
        made = HttpProtocol.__new__(HttpProtocol)
        made.__dict__ = self.__dict__.copy()
        made.parser = _parser(made)
        made.pipeline = deque()
        made.intake = Intake(self._body_bytes)
        return made

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """In place of uvicorn's, which makes socket objects to ask the kernel for what the transport knows."""
        self.connections.add(self)
        self.transport = transport
        self._local_address = functools.partial(_local_address, transport)
        self.flow = FlowControl(transport)
        peer = transport.get_extra_info("peername")
        self.client = (peer[0], peer[1]) if peer else None
        self._deadlines.begin(self)
        if self._state.is_ending:  # it was on its way when the rest were told
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.stop(self)
        self._unset_stalled()
        self._tell_of_the_end()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._gone()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that ends its own direction alone, behind a whole request, still gets the answer.

        Of an answer that has begun it is the end: a stream has no other way to see its client leave. TLS has no half
        of an end.
        """
        awaits = self._is_answering() and not self.cycle.more_body and not self.cycle.response_started
        if not awaits or self.scheme == "https":
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        while data and not self._refused:
            if self._upgraded:
                cast("asyncio.Protocol", self.transport.get_protocol()).data_received(data)
                return
            if len(data) <= PIECE_BYTES:
                data = self._parse(data)
            else:
                data = self._parse(data[:PIECE_BYTES]) + data[PIECE_BYTES:]
        if self._waits_for_request():
            self._deadlines.begin(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unset_stalled()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = self._in_head = self._new_head = True
        self._head_bytes = 0
        self._codings = []
        self.intake.begin()
        self.scope["state"][TRANSPORT] = self.transport
        self.scope["state"][LOCAL_ADDRESS] = self._local_address

    def on_header(self, name: bytes, value: bytes) -> None:
        """In place of uvicorn's: white space behind the value is no part of it (RFC 9112, section 5).

        A trailer is no field of the head, and nobody here wants one.
        """
        if not self._in_head:
            return
        if len(self.headers) >= HEAD_FIELDS:
            raise _head_too_large()
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"transfer-encoding":
            self._codings.append(value.lower())
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            # The parser takes all that follows for a tunnel's: read again as a plain request it would never end.
            raise _Fault(400, "expected another method than CONNECT, which is for proxies")
        self._head_bytes = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if self._head_bytes > HEAD_BYTES:
            raise _head_too_large()
        if len(self.pipeline) >= PIPELINED:
            raise _Fault(400, f"expected at most {PIPELINED} requests to wait for their turn")
        if self._codings:
            self._check_transfer_coding(self._codings)
        self._deadlines.stop(self)
        self._judge_upgrade()
        if not self._is_upgrade:
            super().on_headers_complete()
            self.intake.head(self._head_bytes, len(self.headers))
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self.intake.body(len(body))
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        self._in_message = False
        if not self._is_upgrade:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.intake.answered()
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        if self._is_answering() or self.flow.write_paused:
            # The next protocol would not hear from a transport that is full already that it is.
            self._cut_off()
            return
        self._upgraded = True
        self.connections.discard(self)
        peer, local_address = self.client[0] if self.client else "", self.scope["state"][LOCAL_ADDRESS]
        asked = Request.read(peer, self.scheme or "http", self.headers, local_address=local_address)
        self._upgrade(self.transport, self.parser.get_method().decode(), self.url.decode("latin-1"), asked)
        # The parser holds this object's callbacks: without this, each upgrade leaves a cycle for the collector.
        self.parser = self.cycle = self._running = self.scope = self.flow = None  # type: ignore[assignment]
        self._unset_stalled()
        self._gone()

    def overdue(self) -> None:
        """A whole request head should have come by now."""
        log.debug("no whole request in time", peer=self.client and self.client[0], handshake_s=self._deadlines.after_s)
        self._count(RefusalReason.HEAD_TIMEOUT)
        self._close()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _parse(self, piece: bytes) -> bytes:
        """Parse `piece`, or refuse it. What is left of it behind an upgrade is for whoever reads on.

        In place of uvicorn's, which has no answer to a body after an upgrade that is not ours, and logs each.
        """
        self.intake.came(len(piece))
        was_in_head, self._new_head = self._in_head, False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            return self._pass_on(piece[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            fault = error.__context__
            self._refuse(fault if isinstance(fault, _Fault) else _Fault(400, "expected HTTP/1.1"))
        else:
            if was_in_head and self._in_head and not self._new_head:
                self._head_bytes += len(piece)
            if self._in_head and self._head_bytes > HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self.intake.is_over:
                self._refuse(_Fault(413, f"expected at most {HELD_BYTES} bytes beside a body that is wanted"))
        return b""

    def _pass_on(self, rest: bytes) -> bytes:
        """Hand the connection on to our WebSocket, or read the request once more as one without an upgrade."""
        if self._should_upgrade():
            self.handle_websocket_upgrade()
            return rest
        again = self._head_without_upgrade() + rest
        self.parser = _parser(self)  # the old one reads nothing behind a `Connection: close`
        return again

    def _check_transfer_coding(self, codings: list[bytes]) -> None:
        """Raise `_Fault` for a body whose end cannot be known (RFC 9112, section 6.1)."""
        if codings != [b"chunked"] or self.parser.get_http_version() == "1.0":
            got = b", ".join(codings)[:64].decode("latin-1")
            raise _Fault(400, f"expected the transfer coding chunked, in HTTP/1.1, or none, got {got!r}")

    def _judge_upgrade(self) -> None:
        """Whether the head asks for another protocol, and whether for our WebSocket: Java's client asks for HTTP/2.

        HTTP/1.0 knows no upgrades (RFC 9110, section 7.8).
        """
        asked = [value.lower() for name, value in self.headers if name == b"upgrade"]
        self._is_upgrade = bool(asked) and self.parser.should_upgrade()
        self._is_ours = self._is_upgrade and b"websocket" in asked and self.parser.get_http_version() != "1.0"

    def _should_upgrade(self) -> bool:
        """uvicorn's judges by the last Connection field, where the parser has read them all."""
        return self._is_ours

    def _head_without_upgrade(self) -> bytes:
        fields = b"".join(b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade")
        version = self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, fields)

    def _waits_for_request(self) -> bool:
        is_over = self._upgraded or self._refused or self.transport.is_closing()
        return not is_over and not self._is_answering()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _count(self, reason: RefusalReason) -> None:
        self._note_refused(reason, self.client[0] if self.client else "")

    def _refuse(self, fault: _Fault) -> None:
        """Answer what cannot be read as a request and close. Where no answer has its place, only close."""
        self._count(RefusalReason.TOO_LARGE if fault.status in {413, 431} else RefusalReason.MALFORMED)
        is_of_a_body = self._in_message and not self._in_head
        if not is_of_a_body and not self._is_answering():
            self._answer(fault)
        elif is_of_a_body and self.cycle.response_complete:
            self._linger()
        elif is_of_a_body and self.cycle is self._running and not self.cycle.response_started:
            self._tell_of_the_end()
            self._answer(fault)
        else:
            self._cut_off()

    def _answer(self, fault: _Fault) -> None:
        body = problem(fault.status, fault.detail)
        fields = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[fault.status], head, body))
        self._linger()

    def _linger(self) -> None:
        """End our side and throw away what still comes: closing at once would be a reset, and take the answer back."""
        self._refused = True
        self._deadlines.stop(self)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _cut_off(self) -> None:
        """End the connection now. Running answers hear of it before they could write to what is closed."""
        self._refused = True
        self._tell_of_the_end()
        self.transport.abort()

    def _tell_of_the_end(self) -> None:
        """Whoever answers here, or waits for its turn, writes nothing any more."""
        for cycle in [self._running, *(cycle for cycle, _ in self.pipeline)]:
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _expect_progress(self) -> None:
        """Look again after the grace period whether the peer took anything."""
        self._unset_stalled()
        unsent = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self._slow_grace_s, self._check_progress, unsent)

    def _check_progress(self, unsent: int) -> None:
        running = self._running
        in_pieces = running is not None and running.response_started and not running.response_complete
        if in_pieces or self.transport.get_write_buffer_size() < unsent:
            self._expect_progress()
        else:
            log.debug("an answer is not taken", peer=self.client and self.client[0], slow_grace_s=self._slow_grace_s)
            self._cut_off()

    def _unset_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: AsgiApp) -> None:
        self._running = cycle
        is_old = cycle.scope["http_version"] == "1.0"
        super()._start_asgi_task(cycle, functools.partial(_unchunked, app, cycle) if is_old else app)

    def _close(self) -> None:
        """Close once what is written has been taken, or without that if nobody takes it."""
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(self._deadlines.after_s, self.transport.abort)


def _local_address(transport: asyncio.Transport) -> str:
    """The address of our end of a connection."""
    name = transport.get_extra_info("sockname")
    return name[0] if isinstance(name, tuple) else ""


async def _unchunked(app: AsgiApp, cycle: RequestResponseCycle, scope: Any, receive: Any, send: Any) -> None:
    """Run `app` for a client of HTTP/1.0, which knows no chunks: an answer without a length ends with its connection.

    uvicorn would chunk it. What it asks of an answer with a length is that each piece is what is left of that.
    """

    async def send_as_it_is(message: Any) -> None:
        if message["type"] == "http.response.start":
            if all(name.lower() != b"content-length" for name, _ in message.get("headers", [])):
                cycle.chunked_encoding = False
        elif cycle.expected_content_length == 0:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    await app(scope, receive, send_as_it_is)


def _head_too_large() -> _Fault:
    return _Fault(431, f"expected a request head of at most {HEAD_BYTES} bytes and {HEAD_FIELDS} fields")


def _parser(protocol: HttpProtocol) -> httptools.HttpRequestParser:
    """A parser as uvicorn sets it up."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _config(app: AsgiApp, *, keep_alive_s: float) -> Config:
    config = Config(
        app,
        http=HttpProtocol,
        ws="none",  # `HttpProtocol` hands upgrades on itself
        lifespan="off",
        log_config=None,
        access_log=False,
        interface="asgi3",
        proxy_headers=False,
        timeout_keep_alive=cast("int", keep_alive_s),
    )
    config.load()
    # What `load` wraps it into at trace level would log query strings, and tokens with them.
    config.loaded_app = app
    return config


def _renew_headers(state: ServerState) -> None:
    state.default_headers = [(b"date", formatdate(usegmt=True).encode()), (b"server", b"tidegate")]


async def _keep_date(state: ServerState) -> None:
    while True:
        await asyncio.sleep(1)
        _renew_headers(state)


def _note_gone(state: ServerState, idle: asyncio.Event) -> None:
    if not state.connections:
        idle.set()


async def _finish(state: _State, idle: asyncio.Event, finish_s: float) -> None:
    state.is_ending = True
    for connection in list(state.connections):
        connection.shutdown()
    if state.connections:
        idle.clear()
        try:
            async with asyncio.timeout(finish_s):
                await idle.wait()
        except TimeoutError:
            log.warning("connections aborted", count=len(state.connections), finish_s=finish_s)
    for connection in list(state.connections):
        connection.transport.abort()
    if tasks := list(state.tasks):
        _, running = await asyncio.wait(tasks, timeout=ABORTED_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _set_limits_of_kernel(listener: socket.socket) -> None:
    """Connections have them from their listener."""
    if listener.family in {socket.AF_INET, socket.AF_INET6}:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
