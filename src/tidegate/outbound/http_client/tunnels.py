"""Makes tunnels through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6). Knows nothing of what goes through them."""

import asyncio
import errno
import http
import socket

from multidict import CIMultiDict

from tidegate.errors import HttpStatus
from tidegate.outbound.http_client.answer import PIECE_BYTES, REFUSAL_BYTES, AnswerReader
from tidegate.outbound.http_client.destinations import Destination
from tidegate.outbound.http_client.failures import Lost, Unconnected, words
from tidegate.outbound.http_client.options import encoded
from tidegate.outbound.http_client.proxying import AUTHORIZATION

_UNAUTHENTICATED = frozenset({401, 407})
"""Statuses that refuse our credentials. tinyproxy answers wrong ones with 401, though that is for servers to say."""


async def tunnel(sock: socket.socket, to: Destination) -> None:
    """Let the proxy at the other end of `sock` connect to the host of the destination.

    Raises `HttpStatus` if our credentials are refused (407, 401), and `Unconnected` if it does not connect for another
    reason. `sock` stays open in any case.
    """
    reader = AnswerReader(body_bytes=REFUSAL_BYTES)
    try:
        await _ask(sock, _request(to), reader)
    except (OSError, Lost) as exc:
        raise Unconnected(errno.EPROTO, f"the proxy ended the connection ({words(exc)})") from exc
    finally:
        reader.close()
    if reader.status in _UNAUTHENTICATED:
        refused = f"{to.peer}: the proxy refuses our credentials, it answered {_shown(reader.status)}"
        raise HttpStatus(reader.status, refused)
    if not reader.is_success:
        raise Unconnected(errno.EPROTO, f"the proxy does not connect to it, it answered {_shown(reader.status)}")


def _request(to: Destination) -> bytes:
    authority = f"{to.url.host_subcomponent}:{to.url.port}"
    fields = CIMultiDict(Host=authority)
    if to.authorization is not None:
        fields[AUTHORIZATION] = to.authorization.reveal()
    return encoded("CONNECT", authority, fields, None)


async def _ask(sock: socket.socket, request: bytes, reader: AnswerReader) -> None:
    """Send `request`, and feed `reader` until it has the head of the answer: what follows is the tunnel."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request)
    while not reader.status:
        data = await loop.sock_recv(sock, PIECE_BYTES)
        if not data:
            raise Lost(answer_begun=reader.begun)
        reader.feed(data)


def _shown(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
