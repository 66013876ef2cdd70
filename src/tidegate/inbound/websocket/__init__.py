"""WebSocket at ``/ws`` (RFC 6455): the opening handshake, frames in, ready frames out, and life and death."""

from tidegate.inbound.websocket.protocol import WebSocketProtocol
from tidegate.inbound.websocket.server import WebSocketOptions, WebSocketServer

__all__ = ["WebSocketOptions", "WebSocketProtocol", "WebSocketServer"]
