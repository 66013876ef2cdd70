"""Where the connections of one backend lead, and what they do there before anything else: TLS.

Made of the settings once, for all connections. Knows nothing of how a connection is made.
"""

import ssl
from pathlib import Path

import msgspec
from yarl import URL

from tidegate.errors import ConfigError, Problem
from tidegate.outbound.http_client.options import HttpOptions, address, peer, socket_path, tls_context
from tidegate.outbound.http_client.proxying import proxy_address
from tidegate.secret import Secret


class Destination(msgspec.Struct, frozen=True):
    """The host of `url`, or else the Unix socket at the path `socket`. `peer` is its name for messages.

    With a `proxy`, connections lead there; it connects to the host of `url`. `authorization` is for the proxy: it is
    known only when a connection is made, and sent to make a tunnel.

    With a context in `tls`, TLS is spoken, and the certificate must be for `tls_name`.
    """

    url: URL
    peer: str
    socket: Path | None = None
    proxy: URL | None = None
    authorization: Secret | None = None
    tls: ssl.SSLContext | None = None
    tls_name: str = ""

    @property
    def is_tunnelled(self) -> bool:
        """Whether the proxy makes a tunnel. Without TLS it gets whole requests instead, and passes them on."""
        return self.proxy is not None and self.tls is not None


def destination(options: HttpOptions) -> Destination:
    """Return where the connections of `options` lead. Reads files.

    Raises `ConfigError` for a URL, socket, proxy, CA file or certificate that cannot be used.
    """
    url, socket, proxy = address(options), socket_path(options), proxy_address(options.proxy)
    if socket is not None and proxy is not None:
        raise ConfigError([Problem("proxy", "no such key beside socket", "both")])
    direct = peer(url) if socket is None else str(socket)
    return Destination(
        url=url,
        peer=direct if proxy is None else f"{direct} through proxy {peer(proxy)}",
        socket=socket,
        proxy=proxy,
        tls=tls_context(options) if url.scheme == "https" else None,
        tls_name=_plain(options.tls_name or url.raw_host or ""),
    )


def _plain(host: str) -> str:
    """Return `host` as certificates have it: without the brackets and the zone of an address, and a dot at the end."""
    return host.strip("[]").partition("%")[0].rstrip(".")
