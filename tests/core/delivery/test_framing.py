import json

import pytest
from fanout import EPOCH, event
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tidegate.core.delivery.framing import EVENT_STREAM, WEBSOCKET, text_frame
from tidegate.core.events import Position


def parsed_by_a_client(data: bytes) -> list[Frame]:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    client.receive_data(data)
    assert client.parser_exc is None
    return [frame for frame in client.events_received() if isinstance(frame, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1 << 20])
def test_a_client_reads_the_frame(size: int) -> None:
    payload = b"x" * size
    [frame] = parsed_by_a_client(text_frame(payload))
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, payload)
    assert (frame.rsv1, frame.rsv2, frame.rsv3) == (False, False, False)


def test_joined_frames_are_read_one_by_one() -> None:
    published = event("a.b", 1, {"n": 1})
    data = (
        WEBSOCKET.event(published, EPOCH)
        + WEBSOCKET.snapshot(published, b"{}")
        + WEBSOCKET.synced(Position(EPOCH, 3), b'{"s":3}')
        + WEBSOCKET.message("pong", b"[]")
    )
    assert [bytes(frame.data) for frame in parsed_by_a_client(data)] == [published.json, b"{}", b'{"s":3}', b"[]"]


class EventSource:
    """What the HTML standard makes of a stream: the events dispatched, and the last event ID."""

    def __init__(self, stream: bytes) -> None:
        self.dispatched: list[tuple[str, str, str]] = []
        self.last_id = ""
        fields: dict[str, str] = {}
        for line in stream.decode().split("\n"):
            name, _, value = line.partition(":")
            if line:
                fields[name] = value.removeprefix(" ")
                continue
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields:
                self.dispatched.append((fields["event"], fields["data"], self.last_id))
            fields = {}


def test_an_event_source_hears_events_and_knows_its_place() -> None:
    first, second = event("a.b", 7, {"text": "one\ntwo\r\u2028"}), event("heartbeat", None)
    stream = (
        EVENT_STREAM.message("welcome", b"{}")
        + EVENT_STREAM.snapshot(first, b'{"s":1}')
        + EVENT_STREAM.message("a.b", first.json)
        + EVENT_STREAM.synced(Position(EPOCH, 7), b'{"s":7}')
        + EVENT_STREAM.event(first, EPOCH)
        + EVENT_STREAM.event(second, EPOCH)
    )
    heard = EventSource(stream)
    assert [(name, place) for name, _, place in heard.dispatched] == [
        ("welcome", ""),
        ("a.b", ""),
        ("a.b", ""),
        ("synced", "e1:7"),
        ("a.b", "e1:7"),
        ("heartbeat", "e1:7"),
    ]
    assert json.loads(heard.dispatched[4][1])["data"] == {"text": "one\ntwo\r\u2028"}
