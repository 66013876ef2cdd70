"""How messages become bytes on a stream: WebSocket text frames (RFC 6455 section 5.2) and server-sent events.

A framing turns an envelope, already encoded, into bytes that may be joined and written as they are. Server frames
are never masked, so one frame serves every client.
"""

from typing import Protocol

from tidegate.core.events import Event, Position


class Framing(Protocol):
    """The five things that a stream carries."""

    def event(self, event: Event, epoch: str) -> bytes:
        """A live or replayed event; on an event stream it moves the client's position."""
        ...

    def snapshot(self, event: Event, json: bytes) -> bytes:
        """A retained event handed over; `json` is its envelope as a snapshot."""
        ...

    def message(self, name: str, json: bytes) -> bytes:
        """A message of type `name` to this connection alone, or an event that leaves the client's position alone."""
        ...

    def synced(self, position: Position, json: bytes) -> bytes:
        """The message that everything up to `position` has been handed over; `json` is its envelope."""
        ...

    def retry(self, retry_ms: int) -> bytes:
        """Tell the client when to come back, ahead of a message; empty where only the message can."""
        ...


class WebSocketFraming:
    """One text frame a message."""

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
    """One event a message, as the HTML standard's ``text/event-stream`` wants it (WHATWG HTML, section 9.2).

    Envelopes are compact JSON and so hold no line break; one ``data:`` line is enough.
    """

    def event(self, event: Event, epoch: str) -> bytes:
        place = b"" if event.seq is None else b"id: %b:%d\n" % (epoch.encode(), event.seq)
        return b"event: %b\n%bdata: %b\n\n" % (event.type.encode(), place, event.json)

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
    """`payload`, valid UTF-8, as one unfragmented and unmasked text frame."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload
