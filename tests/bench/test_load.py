"""The load generator counts exactly, whatever way the frames come; and a whole lane, on the C floor."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest
from bench.lanes import Lane, measure
from bench.load import LoadError, Subscribers, subscribers
from bench.servers import Floor, Place, Running, Setup, frame

pytestmark = pytest.mark.real

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

PING, PONG = b"\x89\x02hi", b"\x8a\x82\x00\x00\x00\x00hi"


def event(pad_bytes: int = 0) -> bytes:
    return b'{"stamp":1000000000000000000,"pad":"%b"}' % (b"x" * pad_bytes)


class Peer:
    """A server that answers each upgrade with `answer`, then sends `parts`: a pong is awaited after each ping."""

    def __init__(self, parts: list[bytes], answer: bytes) -> None:
        self.port = 0
        self._parts = parts
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            self._open.append(connection)
            if not self._serve(connection):
                return

    def _serve(self, connection: socket.socket) -> bool:
        request = connection.recv(4096)
        if not request:
            return False
        connection.sendall(self._answer)
        for part in self._parts:
            connection.sendall(part)
            if PING in part:
                assert connection.recv(len(PONG), socket.MSG_WAITALL) == PONG
        return True

    def close(self) -> None:
        """End the thread with a connection that asks for nothing."""
        with socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._thread.join()
        for connection in [*self._open, self._listener]:
            connection.close()


@contextmanager
def load_on(parts: list[bytes], answer: bytes = ANSWER) -> Iterator[Subscribers]:
    peer = Peer(parts, answer)
    place = Place(peer.port, 0, Path(), Setup())
    try:
        with Popen(["true"]) as process, subscribers(Running(Floor(), place, process)) as load:
            yield load
    finally:
        peer.close()


def counted(parts: list[bytes], *, events: int) -> tuple[float, float, float]:
    """Events, messages and bytes that each of two connections to such a peer counts."""
    last = frame(event())
    with load_on([*parts, last]) as load:
        load.open(2, events=events + 1, limit_ms=5000)
        counts = load.tell("count")
    assert counts["malformed"] == 0
    return counts["events"] / 2 - 1, counts["messages"] / 2 - 1, counts["bytes"] / 2 - len(last)


def test_frames_that_come_in_one_read_are_counted_one_by_one() -> None:
    events, messages, _ = counted([frame(event()) * 3 + frame(b'{"type":"welcome"}')], events=3)

    assert (events, messages) == (3, 4)


def test_an_upgrade_answered_together_with_frames_loses_none() -> None:
    with load_on([], ANSWER + frame(event())) as load:
        load.open(2, events=1, limit_ms=5000)

        assert load.tell("count")["events"] == 2


@pytest.mark.parametrize("length", [50, 300, 70_000])
def test_frames_of_every_length_form(length: int) -> None:
    whole = frame(event(length))

    assert counted([whole], events=1) == (1, 1, len(whole))


@pytest.mark.parametrize("cut", [1, 3, 10, 100])
def test_a_frame_that_comes_in_parts_is_counted_once(cut: int) -> None:
    whole = frame(event(200))

    assert counted([PING + whole[:cut], whole[cut:] + whole], events=2) == (2, 2, len(PING + whole + whole))


def test_several_events_in_one_frame_are_several() -> None:
    events, messages, _ = counted([frame(event() + event())], events=2)

    assert (events, messages) == (2, 1)


def test_a_refused_upgrade_is_no_connection() -> None:
    with (
        load_on([], b"HTTP/1.1 503 Service Unavailable\r\n\r\n") as load,
        pytest.raises(LoadError, match="'refused': 2"),
    ):
        load.open(2)


def test_a_lane_counts_every_delivery() -> None:
    lane = Lane(Floor(), subscribers=20, per_s=200.0, burst=4)

    (row,) = measure([lane], blocks=1, seconds=0.2, details=False)

    assert (row["events"], row["missing"]) == (800, 0)
    assert row["cpu_us"] > 0
