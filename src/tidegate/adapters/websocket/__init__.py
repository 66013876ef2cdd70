"""WebSocket at ``/ws`` (RFC 6455): the opening handshake, frames in, ready frames out, and life and death."""

from tidegate.adapters.websocket.protocol import WebSocketProtocol
from tidegate.adapters.websocket.server import WebSocketOptions, WebSocketServer

__all__ = ["WebSocketOptions", "WebSocketProtocol", "WebSocketServer"]
