import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.events import SEQ_DIGITS, Position
from tidegate.errors import PositionError


@given(st.text(min_size=1), st.integers(0, 10**30))
def test_what_is_shown_can_be_read(epoch: str, seq: int) -> None:
    position = Position(epoch, seq)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text", ["", ":", "e", "e:", ":1", "e:-1", "e:+1", "e: 1", "e:1 ", "e:1.0", "e:x", "e:٣", "e:²"]
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(PositionError, match="expected a position of the form EPOCH:SEQ, got '"):
        Position.parse(text)


@pytest.mark.parametrize("digits", [19, SEQ_DIGITS, 30_000])
def test_a_place_may_have_any_number_of_digits(digits: int) -> None:
    position = Position.parse("e:" + "9" * digits)
    assert position.seq > 2**63
    assert len(str(position)) == len("e:") + min(digits, SEQ_DIGITS)


def test_noughts_in_front_do_not_count() -> None:
    assert Position.parse("e:" + "0" * 30_000 + "7") == Position("e", 7)
    assert Position.parse("e:00") == Position("e", 0)
