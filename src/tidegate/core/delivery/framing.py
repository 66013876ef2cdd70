"""Frames encoded envelopes for a stream: as WebSocket text frames (RFC 6455 section 5.2) or as server-sent events.

Frames can be joined and written without changes. A server never masks WebSocket frames, so all clients can be sent the
same bytes.
"""

from typing import Protocol

from tidegate.core.events import Event, Position


class Framing(Protocol):
    """How to frame the five kinds of things that a stream carries. Methods return the bytes to write."""

    def event(self, event: Event, epoch: str) -> bytes:
        """Frame a live or replayed event. On an event stream, its ``id`` becomes the client's position."""
        ...

    def snapshot(self, event: Event, json: bytes) -> bytes:
        """Frame a retained event as a snapshot; `json` is its envelope."""
        ...

    def message(self, name: str, json: bytes) -> bytes:
        """Frame a message of type `name` to one connection, or an event that must not change the client's position."""
        ...

    def synced(self, position: Position, json: bytes) -> bytes:
        """Frame the `synced` message for `position`; `json` is its envelope."""
        ...

    def retry(self, retry_ms: int) -> bytes:
        """Frame the delay before a reconnect. Write it before a message. Empty if the framing has no such field."""
        ...


class WebSocketFraming:
    """One text frame for each message."""

    def event(self, event: Event, epoch: str) -> bytes:
        return text_frame(event.json)

    def snapshot(self, event: Event, json: bytes) -> bytes:
        return text_frame(json)

    def message(self, name: str, json: bytes) -> bytes:
        return text_frame(json)

    def synced(self, position: Position, json: bytes) -> bytes:
        return text_frame(json)

    def retry(self, retry_ms: int) -> bytes:
        return b""


class EventStreamFraming:
    """One event for each message, in the format ``text/event-stream`` (WHATWG HTML, section 9.2).

    Envelopes are compact JSON and therefore contain no line break, so one ``data:`` line is enough.
    """

    def event(self, event: Event, epoch: str) -> bytes:
        id_line = b"" if event.seq is None else b"id: %b:%d\n" % (epoch.encode(), event.seq)
        return b"event: %b\n%bdata: %b\n\n" % (event.type.encode(), id_line, event.json)

    def snapshot(self, event: Event, json: bytes) -> bytes:
        return self.message(event.type, json)

    def message(self, name: str, json: bytes) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), json)

    def synced(self, position: Position, json: bytes) -> bytes:
        return b"event: synced\nid: %b\ndata: %b\n\n" % (str(position).encode(), json)

    def retry(self, retry_ms: int) -> bytes:
        return b"retry: %d\n" % retry_ms


WEBSOCKET = WebSocketFraming()
EVENT_STREAM = EventStreamFraming()


def text_frame(payload: bytes) -> bytes:
    """Return `payload`, which must be valid UTF-8, as one unfragmented and unmasked text frame."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload
