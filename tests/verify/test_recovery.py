"""How the fourth scenario counts calls."""

import pytest

from tidegate.verify.bounds import Outage
from tidegate.verify.scenarios.outage import busiest_second
from tidegate.verify.scenarios.recovery import WAYS


@pytest.mark.parametrize(
    ("moments", "most"),
    [([], 0), ([5.0], 1), ([1.0, 1.5, 2.0, 2.4, 2.49], 4), ([1.0, 1.999, 2.0, 4.0], 2)],
)
def test_the_busiest_second(moments: list[float], most: int) -> None:
    assert busiest_second(moments) == most


def test_every_outage_that_has_a_bound_is_made() -> None:
    assert {way.outage for way in WAYS} == set(Outage)
