"""Bytes to many sockets, in C and in Python alike, over real sockets."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from tidegate.inbound import _multicast, multicast

SendToAll = Callable[[Sequence[int], bytes], list[tuple[int, int]]]

both = pytest.mark.parametrize("send_to_all", [_multicast.send_to_all, multicast.send_one_by_one], ids=["c", "python"])


class Pair:
    """Two ends of a connection; `ours` is what a server sends to, and never waits."""

    def __init__(self, stack: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        self.ours, self.theirs = stack.enter_context(ours), stack.enter_context(theirs)
        self.ours.setblocking(False)
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)

    def fill(self) -> None:
        try:
            while True:
                self.ours.send(bytes(4096))
        except BlockingIOError:
            pass


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    with ExitStack() as stack:
        yield [Pair(stack) for _ in range(4)]


def descriptors(pairs: Sequence[Pair]) -> list[int]:
    return [pair.ours.fileno() for pair in pairs]


def test_an_installation_with_a_compiler_has_it_in_c() -> None:
    assert multicast.send_to_all is _multicast.send_to_all


@both
def test_everybody_gets_the_bytes(send_to_all: SendToAll, pairs: list[Pair]) -> None:
    assert send_to_all(descriptors(pairs), b"same for all") == []
    assert [pair.theirs.recv(100) for pair in pairs] == [b"same for all"] * 4


@both
def test_nobody_is_nothing_to_do(send_to_all: SendToAll) -> None:
    assert send_to_all([], b"x") == []


@both
def test_what_a_socket_left_is_told_and_the_others_get_it_whole(send_to_all: SendToAll, pairs: list[Pair]) -> None:
    data = bytes(range(256)) * 4096
    pairs[2].fill()
    left = dict(send_to_all(descriptors(pairs), data))
    assert left[2] == 0
    assert sorted(left) == [0, 1, 2, 3], "a million bytes are more than any of them takes at once"
    for place in (0, 1, 3):
        assert 0 < left[place] < len(data)
        pairs[place].ours.close()
        with pairs[place].theirs.makefile("rb") as stream:
            assert stream.read() == data[: left[place]]


@both
def test_a_broken_and_a_closed_socket_take_nothing_and_disturb_nobody(
    send_to_all: SendToAll, pairs: list[Pair]
) -> None:
    places = descriptors(pairs)
    pairs[0].theirs.close()
    pairs[1].ours.close()
    assert send_to_all(places, b"bytes") == [(0, 0), (1, 0)]
    assert [pair.theirs.recv(100) for pair in pairs[2:]] == [b"bytes"] * 2


@both
@pytest.mark.parametrize(("sockets", "data"), [(7, b""), (["1"], b"x"), ([1 << 80], b"x"), ([1], "text")])
def test_what_is_no_socket_or_no_bytes_is_refused(send_to_all: SendToAll, sockets: object, data: object) -> None:
    with pytest.raises((TypeError, OverflowError)):
        send_to_all(sockets, data)  # type: ignore[arg-type]
