"""Where the connections of one backend lead, and what they do there before anything else: TLS.

Made of the settings once, for all connections. Knows nothing of how a connection is made.
"""

import ssl
from pathlib import Path

import msgspec
from yarl import URL

from tidegate.outbound.http_client.options import HttpOptions, address, peer, socket_path, tls_context


class Destination(msgspec.Struct, frozen=True):
    """The host of `url`, or else the Unix socket at the path `socket`. `peer` is its name for messages.

    With a context in `tls`, TLS is spoken, and the certificate must be for `tls_name`.
    """

    url: URL
    peer: str
    socket: Path | None = None
    tls: ssl.SSLContext | None = None
    tls_name: str = ""


def destination(options: HttpOptions) -> Destination:
    """Return where the connections of `options` lead. Reads files.

    Raises `ConfigError` for a URL, socket, CA file or certificate that cannot be used.
    """
    url, socket = address(options), socket_path(options)
    return Destination(
        url=url,
        peer=peer(url) if socket is None else str(socket),
        socket=socket,
        tls=tls_context(options) if url.scheme == "https" else None,
        tls_name=_plain(options.tls_name or url.raw_host or ""),
    )


def _plain(host: str) -> str:
    """Return `host` as certificates have it: without the brackets and the zone of an address, and a dot at the end."""
    return host.strip("[]").partition("%")[0].rstrip(".")
