"""The HTTP server of the gateway, our own, on httptools' parser and asyncio's transports.

Reads requests within limits, runs an ASGI application for each, and hands upgrades on. `serve` is all that others
need; `transport_of` finds the transport under a request. Read `listening`, `connection`, `handlers`, `cycle`, then
the two pure ones: `reading` and `answering`. Why it is our own: docs/design/front-door.md.
"""

from tidegate.inbound.server.cycle import AsgiApp
from tidegate.inbound.server.handlers import AtOnce, Upgrade, transport_of
from tidegate.inbound.server.listening import serve
from tidegate.inbound.server.shared import OnRefused
from tidegate.inbound.server.tls import tls_context

__all__ = ["AsgiApp", "AtOnce", "OnRefused", "Upgrade", "serve", "tls_context", "transport_of"]
