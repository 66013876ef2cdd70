"""The gateway's own HTTP/1.1 server, built on httptools' parser and asyncio's transports.

Reads requests within limits, runs an ASGI application for each, and hands upgrades to the WebSocket server. `serve` is
the entry point; `transport_of` returns the transport of a request. Read `listening`, `connection`, `handlers` and
`cycle` first, then the two modules without I/O: `reading` and `answering`. docs/design/front-door.md says why the
gateway has its own server.
"""

from tidegate.inbound.server.cycle import AsgiApp
from tidegate.inbound.server.handlers import AtOnce, Upgrade, transport_of
from tidegate.inbound.server.listening import Serving, serve
from tidegate.inbound.server.shared import OnRefused
from tidegate.inbound.server.tls import Certificate, LoadedCertificate, TlsFiles, tls_context

__all__ = [
    "AsgiApp",
    "AtOnce",
    "Certificate",
    "LoadedCertificate",
    "OnRefused",
    "Serving",
    "TlsFiles",
    "Upgrade",
    "serve",
    "tls_context",
    "transport_of",
]
