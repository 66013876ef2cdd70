"""The gateway's address: binds a socket to it, and makes its URL. The socket does not listen yet."""

import socket

import msgspec


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen: a host name or IP address, and a TCP port; 0 means any free port."""

    host: str
    port: int


def bound(host: str, port: int) -> socket.socket:
    """Return a socket bound to the first address of `host`. An IPv6 address may be in brackets.

    Raises `OSError` if the address cannot be used. Blocks while it resolves a host name.
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
    """Return the URL of `listener`. A link-local address includes its zone (RFC 6874)."""
    host, port, *rest = listener.getsockname()
    zone = f"%25{socket.if_indextoname(rest[1])}" if rest and rest[1] else ""
    return f"{'https' if tls else 'http'}://{f'[{host}{zone}]' if ':' in host else host}:{port}"
