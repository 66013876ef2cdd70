import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.events import Position
from tidegate.errors import PositionError


@given(st.text(min_size=1), st.integers(0, 10**18 - 1))
def test_what_is_shown_can_be_read(epoch: str, seq: int) -> None:
    position = Position(epoch, seq)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text", ["", ":", "e", "e:", ":1", "e:-1", "e:+1", "e: 1", "e:1 ", "e:1.0", "e:x", "e:٣", "e:²", "e:" + "1" * 19]
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(PositionError, match="expected a position of the form EPOCH:SEQ, got '"):
        Position.parse(text)
