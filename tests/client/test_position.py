"""What the test vectors cannot say (`tests/test_position_vectors.py`): where a stream begins, and bad input."""

import json

import pytest

from tidegate.client.items import UNREADABLE, Message, decode_message
from tidegate.client.position import ClientPosition, Opening, Position

NOTHING: frozenset[str] = frozenset()


def at(seq: int, epoch: str = "e1") -> Position:
    return Position(epoch, seq)


def frame(event_type: str, data: object = None, **fields: object) -> Message:
    message = {"type": event_type, "timestamp": "2026-11-22T21:40:03.123Z", "data": data, **fields}
    return decode_message(json.dumps(message).encode())


def test_a_position_reads_what_it_writes() -> None:
    assert Position.parse("a:b:7") == Position("a:b", 7)
    assert str(Position("a:b", 7)) == "a:b:7"


@pytest.mark.parametrize("text", ["", "7", ":7", "e1:", "e1:-7", "e1:x", "e1:\u0667"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="EPOCH:SEQ"):
        Position.parse(text)


def test_a_new_client_has_nothing() -> None:
    progress = ClientPosition(["a"])
    progress.take(frame("a", seq=5))
    assert progress.complete is None
    assert progress.opening() == Opening(frozenset("a"), None, NOTHING)


def test_a_position_from_before_stands_for_what_is_wanted_unless_something_else_is_said() -> None:
    assert ClientPosition(["a", "b"], since=at(7)).opening() == Opening(frozenset("ab"), at(7), NOTHING)
    assert ClientPosition(["a", "b"], since=at(7), since_types=["a", "c"]).opening() == (
        frozenset("a"),
        at(7),
        frozenset("b"),
    )
    assert ClientPosition(since=at(7), since_types=["a"]).opening() == Opening(frozenset("a"), at(7), NOTHING)
    assert ClientPosition(since=at(7)).opening() == Opening(None, at(7), NOTHING)


def test_a_heartbeat_of_another_epoch_moves_nothing() -> None:
    progress = ClientPosition(since=at(10))
    progress.take(frame("heartbeat", {"epoch": "e2", "seq": 12}))
    assert progress.complete == at(10)


@pytest.mark.parametrize("event_type", ["welcome", "synced", "gap", "subscribed", "unsubscribed", "heartbeat"])
def test_a_message_that_does_not_say_what_it_should_is_unreadable(event_type: str) -> None:
    with pytest.raises(UNREADABLE):
        ClientPosition().take(frame(event_type, {}))
