import pytest

from tidegate.client.position import Position, Progress


def at(seq: int, epoch: str = "e1") -> Position:
    return Position(epoch, seq)


def test_a_position_reads_what_it_writes() -> None:
    assert Position.parse("a:b:7") == Position("a:b", 7)
    assert str(Position("a:b", 7)) == "a:b:7"


@pytest.mark.parametrize("text", ["", "7", ":7", "e1:", "e1:-7", "e1:x", "e1:\u0667"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="EPOCH:SEQ"):
        Position.parse(text)


def test_a_new_client_has_nothing() -> None:
    progress = Progress()
    progress.live(5)
    assert progress.complete is None


def test_a_welcome_counts_only_once_its_snapshots_are_through() -> None:
    progress = Progress(at(3))
    progress.welcomed(at(10), resumed=False)
    assert progress.complete == at(3)
    progress.passed_snapshots()
    assert progress.complete == at(10)


def test_a_resumed_welcome_counts_at_once() -> None:
    progress = Progress(at(3))
    progress.welcomed(at(3), resumed=True)
    progress.live(4)
    assert progress.complete == at(4)


def test_a_welcome_may_lie_before_the_position_asked_for() -> None:
    """A `since` beyond the newest position must not be asked for again and again."""
    progress = Progress(at(100))
    progress.welcomed(at(7), resumed=False)
    progress.passed_snapshots()
    assert progress.complete == at(7)


def test_a_live_event_comes_after_the_snapshots() -> None:
    progress = Progress()
    progress.welcomed(at(10), resumed=False)
    progress.live(11)
    assert progress.complete == at(11)


def test_the_largest_counts() -> None:
    progress = Progress(at(10))
    progress.live(9)
    progress.reached(at(8))
    assert progress.complete == at(10)
    progress.reached(at(12))
    assert progress.complete == at(12)


def test_a_heartbeat_comes_after_the_snapshots() -> None:
    progress = Progress(at(3))
    progress.welcomed(at(10), resumed=False)
    progress.reached(at(10))
    assert progress.complete == at(10)


def test_a_heartbeat_of_another_epoch_begins_anew() -> None:
    progress = Progress(at(10))
    progress.reached(at(2, "e2"))
    assert progress.complete == at(2, "e2")


def test_a_connection_lost_among_the_snapshots_leaves_the_old_position() -> None:
    progress = Progress(at(3))
    progress.welcomed(at(10), resumed=False)
    progress.welcomed(at(3), resumed=True)
    progress.passed_snapshots()
    assert progress.complete == at(3)
