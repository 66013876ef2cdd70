import threading
from collections.abc import Iterator

import pytest

from tidegate.engine.compression.readahead import ReadAhead


def test_items_come_in_order_and_all() -> None:
    with ReadAhead(iter(range(1000))) as items:
        assert list(items) == list(range(1000))


def test_they_are_made_in_another_thread() -> None:
    with ReadAhead(threading.get_ident() for _ in range(1)) as items:
        assert next(items) != threading.get_ident()


def test_an_error_comes_in_its_place() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with ReadAhead(failing()) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="gone"):
            next(items)


def test_no_more_is_read_ahead_than_there_is_room_for() -> None:
    made: list[int] = []
    closed = threading.Event()

    def counting() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.set()

    reading = ReadAhead(counting(), depth=3)
    with reading as items:
        next(items)
    assert len(made) <= 1 + 3 + 2
    assert closed.is_set()
    assert not reading._thread.is_alive()
