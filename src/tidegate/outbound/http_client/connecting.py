"""Makes connections to a backend: first the bare TCP or Unix connection, then what is spoken over it begins.

The two steps are apart because a backend whose connection stands can be reached, even if nothing works over it. Knows
nothing of requests, or of how long a connection is kept.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from tidegate.outbound.http_client.destinations import Destination
from tidegate.outbound.http_client.failures import Unconnected, is_our_lack, words
from tidegate.outbound.http_client.names import looked_up
from tidegate.outbound.http_client.tunnels import tunnel
from tidegate.outbound.http_client.unix import connected_to_socket

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

TLS_CLOSE_S = 0.1
"""How many seconds to wait for the server's part when closing a TLS connection."""

_NEXT_ADDRESS_S = 0.25
"""After how many seconds without a connection the next address of a name is tried in parallel (RFC 8305)."""


class NewConnection(Protocol):
    """A connection that stands, but on which nothing was sent yet."""

    @property
    def is_open(self) -> bool:
        """Whether the peer has not closed it, as far as this machine knows."""
        ...

    async def start(self, speak: Callable[[], _Protocol]) -> _Protocol:
        """Give it to the protocol that `speak` makes, with TLS if the destination has it. Call this at most once.

        Raises `OSError`, such as `ssl.SSLError`. After an error or a cancellation it is closed.
        """
        ...

    def close(self) -> None:
        """Close it immediately, if it was not started."""
        ...


Connect = Callable[[Destination], Awaitable[NewConnection]]
"""Makes a connection to a destination. `start` uses TLS if the destination says so. Raises `OSError`."""


async def connected(to: Destination) -> NewConnection:
    """Open a connection: to the Unix socket of the destination, through its proxy, or over TCP to the host of its URL.

    Tries all addresses of a name, with overlap ("happy eyeballs", RFC 8305). Raises `OSError`, such as
    `socket.gaierror`, and `HttpStatus` (407) if a proxy refuses our credentials. Cancelling leaves nothing open.
    """
    if to.socket is not None:
        return _BareConnection(await connected_to_socket(to.socket), to)
    if to.proxy is not None:
        return _BareConnection(await _connected_through(to.proxy, to), to)
    return _BareConnection(await _connected_to_host(to.url), to)


async def _connected_through(proxy: URL, to: Destination) -> socket.socket:
    try:
        sock = await _connected_to_host(proxy)
    except OSError as exc:
        if is_our_lack(exc):
            raise
        raise Unconnected(errno.EHOSTUNREACH, f"the proxy cannot be reached: {words(exc)}") from exc
    if to.is_tunnelled:
        try:
            await tunnel(sock, to)
        except BaseException:
            sock.close()
            raise
    return sock


async def _connected_to_host(url: URL) -> socket.socket:
    found = await _addresses(url)
    task = asyncio.current_task()
    cancelling = task.cancelling() if task is not None else 0
    sock = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_S)
    # A cancellation that comes while the library ends the attempts that lost the race is swallowed by it.
    if task is not None and task.cancelling() > cancelling:
        sock.close()
        raise asyncio.CancelledError
    return sock


class _BareConnection:
    def __init__(self, sock: socket.socket, to: Destination) -> None:
        self._sock = sock
        self._to = to

    @property
    def is_open(self) -> bool:
        try:
            # A byte that is there may be a greeting, which the first call reads.
            return self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def start(self, speak: Callable[[], _Protocol]) -> _Protocol:
        tls = self._to.tls
        # By default asyncio keeps a closed TLS connection open for 30 s if the server does not respond.
        name, close_s = (self._to.tls_name, TLS_CLOSE_S) if tls else (None, None)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                speak, sock=self._sock, ssl=tls, server_hostname=name, ssl_shutdown_timeout=close_s
            )
        except BaseException:
            self._sock.close()
            raise
        return connection

    def close(self) -> None:
        self._sock.close()


async def _addresses(url: URL) -> Sequence[AddrInfoType]:
    host, port = url.raw_host or "", url.port or 0
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return await looked_up(host, port)
    if isinstance(literal, ipaddress.IPv4Address):
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    if literal.scope_id:
        return await looked_up(url.host or "", port)  # `url.host` is decoded: a zone begins with ``%``, not ``%25``
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
