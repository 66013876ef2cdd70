import pytest
from fanout import event

from tidegate.core.delivery.outbox import COUNTED_TYPES, OTHER_TYPES, QUEUE, Outbox


def drained(outbox: Outbox) -> list[int | None]:
    return [outbox.pop().seq for _ in range(len(outbox))]


def test_keeps_what_fits_oldest_first() -> None:
    outbox = Outbox()
    for seq in (1, 2, 3):
        outbox.offer(event("a.b", seq))
    assert len(outbox) == 3
    assert outbox.take_skipped() == ({}, {})
    assert drained(outbox) == [1, 2, 3]
    with pytest.raises(KeyError):
        outbox.pop()


def test_keeps_only_the_newest_retained_event_of_a_key_in_its_new_place() -> None:
    outbox = Outbox()
    outbox.offer(event("s", 1, key="x", retain=True))
    outbox.offer(event("s", 2, key="y", retain=True))
    outbox.offer(event("t", 3, retain=True))
    outbox.offer(event("s", 4, key="x", retain=True))
    outbox.offer(event("s", 5, key="x", retain=True))
    assert outbox.skipped == {"s": 2}
    assert outbox.take_skipped() == ({"s": 2}, {"s": 2})
    assert outbox.skipped == {}
    assert outbox.take_skipped() == ({}, {})
    assert drained(outbox) == [2, 3, 5]


def test_queues_other_events_and_drops_the_oldest() -> None:
    outbox = Outbox()
    outbox.offer(event("kept", 1, retain=True))
    for seq in range(2, QUEUE + 5):
        outbox.offer(event("log.a" if seq % 2 else "log.b", seq))
    assert outbox.take_skipped() == ({"log.a": 1, "log.b": 2}, {})
    assert drained(outbox) == [1, *range(5, QUEUE + 5)]


def test_a_queue_that_was_partly_worked_off_has_that_much_room_again() -> None:
    outbox = Outbox()
    for seq in range(1, QUEUE + 1):
        outbox.offer(event("log", seq))
    assert [outbox.pop().seq for _ in range(10)] == list(range(1, 11))
    for seq in range(QUEUE + 1, QUEUE + 11):
        outbox.offer(event("log", seq))
    assert outbox.skipped == {}
    outbox.offer(event("log", QUEUE + 11))
    assert outbox.take_skipped() == ({"log": 1}, {})
    assert drained(outbox) == list(range(12, QUEUE + 12))


def test_counts_the_bytes_of_what_it_holds() -> None:
    outbox = Outbox()
    first, second = event("s", 1, "x" * 100, retain=True), event("s", 2, retain=True)
    outbox.offer(first)
    assert outbox.bytes == len(first.json)
    outbox.offer(second)
    assert outbox.bytes == len(second.json)
    queued = [event("log", seq, seq) for seq in range(3, QUEUE + 4)]
    for each in queued:
        outbox.offer(each)
    assert outbox.bytes == len(second.json) + sum(len(each.json) for each in queued[1:])
    while outbox:
        outbox.pop()
    assert outbox.bytes == 0


def test_names_a_bounded_number_of_the_types_that_it_skipped_and_counts_the_others_together() -> None:
    outbox = Outbox()
    invented = [f"log.{n}" for n in range(COUNTED_TYPES + 50)]
    for seq, event_type in enumerate([*invented, "log.0", "log.120", *["last"] * QUEUE], 1):
        outbox.offer(event(event_type, seq))
    counted = dict.fromkeys(invented[:COUNTED_TYPES], 1)
    assert outbox.take_skipped() == ({**counted, "log.0": 2, OTHER_TYPES: 51}, {})
