from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.instant import from_rfc3339, rfc3339


@pytest.mark.parametrize(
    ("wall", "shown"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1764066000.123, "2025-11-25T10:20:00.123Z"),
        (1764066000.9999, "2025-11-25T10:20:00.999Z"),
        (1764066000.9999998, "2025-11-25T10:20:01.000Z"),
        (-0.001, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_how_a_moment_is_told(wall: float, shown: str) -> None:
    assert rfc3339(wall) == shown


@given(st.integers(-7_000_000_000_000, 7_000_000_000_000))
def test_every_millisecond_of_four_centuries_is_told_as_it_is(milliseconds: int) -> None:
    shown = rfc3339(milliseconds / 1000)
    assert datetime.fromisoformat(shown) == datetime.fromtimestamp(milliseconds / 1000, UTC)
    assert round(from_rfc3339(shown) * 1000) == milliseconds
