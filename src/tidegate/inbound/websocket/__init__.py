"""The WebSocket endpoint ``/ws`` (RFC 6455): the opening handshake, frames, pings, and the closing handshake."""

from tidegate.inbound.websocket.protocol import WebSocketProtocol
from tidegate.inbound.websocket.server import WebSocketOptions, WebSocketServer

__all__ = ["WebSocketOptions", "WebSocketProtocol", "WebSocketServer"]
