import pytest
from fanout import EPOCH, event
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.delivery.history import History
from tidegate.core.events import Event, Position


def at(seq: int, epoch: str = EPOCH) -> Position:
    return Position(epoch, seq)


def filled(count: int, *, first: int = 1, max_events: int = 100, max_bytes: int = 1 << 20) -> History:
    history = History(max_events=max_events, max_bytes=max_bytes)
    history.begin(at(0))
    for seq in range(first, first + count):
        history.append(event("a", seq))
    return history


def held_after(history: History, seq: int) -> list[Event]:
    """What a client that knows `seq` is handed."""
    held = []
    while (found := history.after(seq)) is not None:
        assert found.seq is not None
        held.append(found)
        seq = found.seq
    return held


def seqs_after(history: History, seq: int) -> list[int | None]:
    return [e.seq for e in held_after(history, seq)]


def test_keeps_the_newest_by_count() -> None:
    history = filled(100)
    assert [e.seq for e in history.append(event("a", 101))] == [1]
    assert len(history) == 100
    assert seqs_after(history, 0) == list(range(2, 102))
    assert history.after(101) is None


def test_keeps_the_newest_by_bytes() -> None:
    events = [event("a", seq, "x" * 100) for seq in range(1, 5)]
    size = len(events[0].json)
    history = History(max_events=100, max_bytes=3 * size)
    assert [history.append(e) for e in events[:3]] == [[], [], []]
    assert history.bytes == 3 * size
    assert history.append(events[3]) == [events[0]]
    assert history.append(event("a", 5, "x" * (100 + size))) == events[1:3]


def test_an_event_larger_than_all_of_it_falls_out_at_once_and_nothing_before_it_stays() -> None:
    history = filled(3, max_bytes=1000)
    large = event("a", 4, "x" * 1000)
    assert [e.seq for e in history.append(large)] == [1, 2, 3, 4]
    assert (len(history), history.bytes) == (0, 0)
    assert history.gap_reason(at(3), at(4)) == "history_truncated"
    history.append(event("a", 5))
    assert history.gap_reason(at(4), at(5)) is None


@pytest.mark.parametrize(
    ("since", "reason"),
    [
        (at(10), None),
        (at(9), None),
        (at(7), None),
        (at(6), "history_truncated"),
        (at(0), "history_truncated"),
        (at(11), "epoch_changed"),
        (at(9, "e2"), "epoch_changed"),
    ],
)
def test_says_why_a_replay_cannot_be_whole(since: Position, reason: str | None) -> None:
    assert filled(10, max_events=3).gap_reason(since, at(10)) == reason


def test_a_place_from_before_the_patterns_were_what_they_are_is_refused() -> None:
    history = filled(10)
    assert history.gap_reason(at(6), at(10), not_before=7) == "history_truncated"
    assert history.gap_reason(at(7), at(10), not_before=7) is None
    assert history.gap_reason(at(6, "e2"), at(10), not_before=7) == "epoch_changed"


@pytest.mark.parametrize(("count", "max_events", "newest"), [(0, 5, 0), (3, 5, 3), (10, 5, 10), (10, 0, 10)])
def test_knows_the_newest_position_whatever_fell_out(count: int, max_events: int, newest: int) -> None:
    assert filled(count, max_events=max_events).newest == newest


def test_before_the_first_event_there_is_nothing_to_miss() -> None:
    assert History(max_events=1, max_bytes=1).gap_reason(at(0), at(0)) is None


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 10), st.integers(0, 2000), st.integers(0, 3).map(str))
def test_holds_an_unbroken_end_of_the_sequence_within_both_bounds(
    sizes: list[int], max_events: int, max_bytes: int, name: str
) -> None:
    history = History(max_events=max_events, max_bytes=max_bytes)
    published: list[Event] = []
    fallen: list[Event] = []
    for seq, size in enumerate(sizes, 1):
        published.append(event(name, seq, "x" * size))
        fallen += history.append(published[-1])
        held = held_after(history, 0)
        assert fallen + held == published
        assert len(held) == len(history) <= max_events
        assert sum(len(e.json) for e in held) == history.bytes <= max_bytes
        if fallen:
            assert len(held) == max_events or history.bytes + len(fallen[-1].json) > max_bytes
