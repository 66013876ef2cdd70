"""Which occurrences of a fault get a line, as a rule over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.log_events import EVERY_S, FaultLine, OverLine, RepeatingFault

Line = FaultLine | OverLine


def test_it_is_said_when_it_begins_once_a_minute_and_when_it_is_over() -> None:
    fault = RepeatingFault()
    lines = [line for at in range(150) if (line := fault.occurred(1000.0 + at)) is not None]
    assert lines == [FaultLine(0, 0.0), FaultLine(59, 60.0), FaultLine(59, 120.0)]
    assert fault.is_there
    assert fault.fine(1150.0) == OverLine(150.0, 150)
    assert not fault.is_there
    assert fault.fine(1151.0) is None
    assert fault.look_at is None


def test_one_that_comes_and_goes_is_said_once_a_minute_with_its_number() -> None:
    fault = RepeatingFault()
    assert fault.occurred(0.0) == FaultLine(0, 0.0)
    assert fault.fine(1.0) == OverLine(1.0, 1)
    for at in range(2, 60, 2):
        assert fault.occurred(float(at)) is None
        assert fault.fine(at + 1.0) is None
    assert fault.look_at == 60.0
    assert fault.look(59.9) is None
    assert fault.look(60.0) == OverLine(58.0, 29)
    assert fault.occurred(61.0) is None


def test_one_that_came_back_unsaid_is_said_when_the_minute_has_passed() -> None:
    fault = RepeatingFault()
    fault.occurred(0.0)
    fault.fine(1.0)
    assert fault.occurred(2.0) is None
    assert fault.look(60.0) == FaultLine(1, 58.0)
    assert fault.fine(61.0) == OverLine(59.0, 1)


def test_what_went_well_says_the_end_if_nobody_looked() -> None:
    fault = RepeatingFault()
    fault.occurred(0.0)
    fault.fine(1.0)
    fault.occurred(2.0)
    assert fault.fine(3.0) is None
    assert fault.fine(60.0) == OverLine(58.0, 1)


def test_a_fault_that_comes_back_long_after_is_said_at_once() -> None:
    fault = RepeatingFault()
    fault.occurred(0.0)
    fault.fine(1.0)
    assert fault.occurred(60.0) == FaultLine(0, 0.0)


steps = st.lists(st.tuples(st.floats(0.0, 90.0), st.sampled_from(["occurs", "fine"])), max_size=200)


@given(steps)
def test_there_are_at_most_three_lines_in_any_minute_and_every_occurrence_is_accounted_for(
    steps: list[tuple[float, str]],
) -> None:
    fault = RepeatingFault()
    now, lines, occurred = 0.0, list[tuple[float, Line]](), 0

    def note(line: Line | None, at: float) -> None:
        if line is not None:
            lines.append((at, line))

    def look_until(until: float) -> None:
        while (at := fault.look_at) is not None and at <= until:
            note(fault.look(at), at)

    for after_s, step in steps:
        now += after_s
        look_until(now)
        if step == "occurs":
            occurred += 1
            note(fault.occurred(now), now)
        else:
            note(fault.fine(now), now)
    look_until(now + EVERY_S)
    note(fault.fine(now + EVERY_S), now + EVERY_S)
    for at, _ in lines:
        assert sum(at <= other < at + EVERY_S for other, _ in lines) <= 3
    assert sum(line.times for _, line in lines if isinstance(line, OverLine)) == occurred
    assert bool(occurred) == bool(lines)


@pytest.mark.parametrize("is_there", [True, False])
def test_the_last_line_of_a_minute_says_whether_it_is_there(is_there: bool) -> None:
    fault = RepeatingFault()
    fault.occurred(0.0)
    fault.fine(1.0)
    fault.occurred(2.0)
    if not is_there:
        fault.fine(3.0)
    assert isinstance(fault.look(60.0), FaultLine if is_there else OverLine)
