"""A minimal HTTP client: sends one request on a new connection and reads the whole response.

The client makes few HTTP requests (readiness, publish), so connections are not pooled. h11 parses and does no I/O.
Redirects are not followed, cookies are not kept, proxy settings of the environment are not used, and compression is
not requested. This module must not know what a response means.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import SplitResult, unquote, urlsplit

import h11
import msgspec
from aiohappyeyeballs import start_connection

from tidegate import __version__
from tidegate.client.refusals import error_text
from tidegate.errors import Unreachable

ANSWER_BYTES = 16 * 1024 * 1024
"""Limit on a response body. No response of a gateway is longer."""

NEXT_ADDRESS_S = 0.25
"""How long to wait for one address of a host before the next is tried in parallel (RFC 8305 recommends 250 ms)."""

READ_BYTES = 65_536
PORTS = {"http": 80, "https": 443}


class NoAnswer(Exception):
    """No complete response arrived. The message says why, worded to follow "no gateway answers there: "."""


class Answer(msgspec.Struct, frozen=True):
    """A complete response. Names in `headers` are lower case; if a header is repeated, the last value is kept."""

    status: int
    phrase: str
    headers: Mapping[str, str]
    body: bytes


async def ask(
    method: str,
    url: str,
    *,
    timeout_s: float,
    token: str | None = None,
    body: bytes | None = None,
    check_certificate: bool = True,
) -> Answer:
    """Send a request to `url` and return the response, whatever its status.

    `body` is JSON. `token` takes precedence over a user name in `url`.
    Raises `NoAnswer`, `TimeoutError` after `timeout_s`, and `ValueError` for an unusable `url`; its subclass
    `UnicodeError` means that the host name is invalid. Cancellation closes the connection.
    """
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"expected an address that begins with http:// or https://, got {url!r}")
    request = _request(method, parts, token=token, body=body)
    async with asyncio.timeout(timeout_s):
        try:
            reader, writer = await _connected(parts, check_certificate=check_certificate)
            try:
                # Do not drain: a server may respond, for example with 413, before it has read the whole request.
                writer.write(request)
                return await _answer(method, reader)
            finally:
                writer.transport.abort()
        except OSError as error:
            # This may be the system's `TimeoutError` (ETIMEDOUT): `asyncio.timeout` raises its own outside this block.
            raise NoAnswer(error_text(error)) from error
        except h11.RemoteProtocolError as error:
            raise NoAnswer(f"its answer is not valid HTTP: {error}") from error


@contextmanager
def reaching(url: str, *, timeout_s: float) -> Iterator[None]:
    """Turn the errors of `ask` into `Unreachable`. Its message shows `url`, the address as the user wrote it."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"no answer from {url} within {timeout_s:g} s") from None
    except NoAnswer as error:
        raise Unreachable(f"no gateway answers at {url}: {error}") from error
    except UnicodeError as error:
        raise Unreachable(f"no gateway answers at {url}: the host name is invalid") from error


def _request(method: str, parts: SplitResult, *, token: str | None, body: bytes | None) -> bytes:
    headers = {
        "Host": _authority(parts),
        "User-Agent": f"tidegate/{__version__}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    ours = h11.Connection(h11.CLIENT)
    try:
        head = ours.send(h11.Request(method=method, target=target, headers=list(headers.items())))
    except h11.LocalProtocolError as error:
        raise ValueError(f"expected a request of printable characters: {error}") from error
    return (head or b"") + (body or b"")


def _authority(parts: SplitResult) -> str:
    """Return the value of the Host header: an IPv6 address in brackets and without its zone, a name in ASCII."""
    host = (parts.hostname or "").partition("%")[0]
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    return name if parts.port in (None, PORTS[parts.scheme]) else f"{name}:{parts.port}"


async def _connected(
    parts: SplitResult, *, check_certificate: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = (parts.hostname or "").replace("%25", "%"), parts.port or PORTS[parts.scheme]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_S)
    try:
        if parts.scheme == "http":
            return await asyncio.open_connection(sock=sock)
        tls = ssl.create_default_context()
        if not check_certificate:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        return await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=host)
    except BaseException:
        sock.close()
        raise


async def _answer(method: str, reader: asyncio.StreamReader) -> Answer:
    """Read one response. Without a length header, the end of the connection is the end of the body."""
    theirs = h11.Connection(h11.CLIENT)
    # h11 parses a response only after a request, whose method decides whether there is a body (HEAD has none).
    theirs.send(h11.Request(method=method, target="/", headers=[("Host", "")]))
    theirs.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = bytearray()
    while True:
        match theirs.next_event():
            case h11.NEED_DATA:
                data = await reader.read(READ_BYTES)
                if not data and head is None:
                    raise NoAnswer("the connection ended before an HTTP answer came")
                theirs.receive_data(data)
            case h11.Response() as event:
                head = event
            case h11.Data() as event:
                body += event.data
                if len(body) > ANSWER_BYTES:
                    raise NoAnswer(f"expected an answer of at most {ANSWER_BYTES} bytes, got more")
            case h11.InformationalResponse():
                pass  # the final response follows
            case _:
                assert head is not None
                fields = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
                return Answer(head.status_code, head.reason.decode("latin-1"), fields, bytes(body))
