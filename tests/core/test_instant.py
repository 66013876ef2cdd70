from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.instant import LONG_AGO, Instant, carried_time, from_rfc3339, resumed_time, rfc3339


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


NOON = Instant(1000.0, 1_700_000_000.0)


def later(seconds: float, *, set_by: float = 0.0) -> Instant:
    """`seconds` after noon, on a wall clock that somebody has set by `set_by` meanwhile."""
    return Instant(NOON.mono + seconds, NOON.wall + seconds + set_by)


@given(st.floats(0, 1e6), st.floats(-0.99, 0.99))
def test_a_held_moment_stays_as_it_is_told_while_nobody_sets_the_clock(seconds: float, slewed: float) -> None:
    now = later(seconds, set_by=slewed)
    assert NOON.step_to(now) == 0.0
    assert NOON.seen_at(now) is NOON


@given(st.floats(0, 1e6), st.floats(1.01, 1e9), st.sampled_from([-1, 1]), st.floats(0, 1e6), st.floats(-0.99, 0.99))
def test_it_is_moved_by_a_step_once_so_that_its_age_stays_true(
    seconds: float, size: float, direction: int, more: float, slewed: float
) -> None:
    step_s = direction * size
    moved = NOON.seen_at(later(seconds, set_by=step_s))
    assert moved.mono == NOON.mono
    assert moved.wall == pytest.approx(NOON.wall + step_s, abs=1e-5)
    assert moved.seen_at(later(seconds + more, set_by=step_s + slewed)) is moved


@pytest.mark.parametrize(("mono", "wall"), [(NOON.mono - 40.0, NOON.wall - 40.0), (LONG_AGO, None)])
def test_a_monotonic_time_is_carried_as_a_wall_time_and_back(mono: float, wall: float | None) -> None:
    assert carried_time(mono, NOON) == wall
    assert resumed_time(wall, NOON) == mono
