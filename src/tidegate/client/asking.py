"""One HTTP request of the client and its whole answer, on a connection of its own.

The client asks a gateway a thing or two (is it ready, take this event), so nothing is pooled. h11 knows the grammar and
does no I/O. Redirects, cookies, proxies of the environment and compressed answers are not followed, kept, used or
asked for. Must not know what an answer means.
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
"""The longest answer that is read. Anything longer comes from no gateway."""

NEXT_ADDRESS_S = 0.25
"""After so many seconds without an answer a name's next address is tried as well (RFC 8305)."""

READ_BYTES = 65_536
PORTS = {"http": 80, "https": 443}


class Unanswered(Exception):
    """No whole answer came; the message says why, in words that can follow "no gateway answers there: "."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. The names in `headers` are in lower case; of several of one name the last is kept."""

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
    """The answer of the server at `url`, whatever its status. `body` is JSON; `token` wins over a user in `url`.

    Raises `Unanswered`, `TimeoutError` after `timeout_s`, `ValueError` for a `url` that cannot be asked, of which
    `UnicodeError` is for a host that can be no name.
    Cancelling closes the connection.
    """
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"expected an address that begins with http:// or https://, got {url!r}")
    request = _request(method, parts, token=token, body=body)
    async with asyncio.timeout(timeout_s):
        try:
            reader, writer = await _connected(parts, check_certificate=check_certificate)
            try:
                # Written whole, without waiting: an answer may come while the server has read only a part of it.
                writer.write(request)
                return await _answer(method, reader)
            finally:
                writer.transport.abort()
        except OSError as error:
            # `asyncio.timeout` makes its error outside of this block: a `TimeoutError` here is the system's.
            raise Unanswered(error_text(error)) from error
        except h11.RemoteProtocolError as error:
            raise Unanswered(f"its answer breaks HTTP: {error}") from error


@contextmanager
def reaching(url: str, *, timeout_s: float) -> Iterator[None]:
    """What `ask` raises within this, `url` as its caller wrote it, is `Unreachable`."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"no answer from {url} within {timeout_s:g} s") from None
    except Unanswered as error:
        raise Unreachable(f"no gateway answers at {url}: {error}") from error
    except UnicodeError as error:
        raise Unreachable(f"no gateway answers at {url}: its name cannot be one") from error


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
    """The host as the server is told it: an IPv6 address in brackets and without its zone, a name in ASCII."""
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
    """Read the answer; it may be the end of the connection that ends it."""
    theirs = h11.Connection(h11.CLIENT)
    theirs.send(
        h11.Request(method=method, target="/", headers=[("Host", "")])
    )  # HEAD and CONNECT are answered otherwise
    theirs.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = bytearray()
    while True:
        match theirs.next_event():
            case h11.NEED_DATA:
                data = await reader.read(READ_BYTES)
                if not data and head is None:
                    raise Unanswered("the connection ended before an HTTP answer came")
                theirs.receive_data(data)
            case h11.Response() as event:
                head = event
            case h11.Data() as event:
                body += event.data
                if len(body) > ANSWER_BYTES:
                    raise Unanswered(f"expected an answer of at most {ANSWER_BYTES} bytes, got more")
            case h11.InformationalResponse():
                pass  # the one that counts follows
            case _:
                assert head is not None
                fields = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
                return Answer(head.status_code, head.reason.decode("latin-1"), fields, bytes(body))
