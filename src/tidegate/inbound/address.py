"""The address that clients reach the gateway at: the socket bound to it, and its URL. Nothing listens on it yet."""

import socket

import msgspec


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen: a name or an address, and a TCP port, 0 for any free one."""

    host: str
    port: int


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to the first address that `host` stands for; an IPv6 address may stand in brackets.

    Raises `OSError` where that address cannot be had.
    """
    name = host.removeprefix("[").removesuffix("]")
    family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """Where `listener` is reached; a link-local address only with its zone (RFC 6874)."""
    host, port, *rest = listener.getsockname()
    zone = f"%25{socket.if_indextoname(rest[1])}" if rest and rest[1] else ""
    return f"{'https' if tls else 'http'}://{f'[{host}{zone}]' if ':' in host else host}:{port}"
