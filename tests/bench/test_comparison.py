"""What the tables claim: medians of pairs, intervals around them, slopes."""

import pytest
from bench.comparison import estimate, ratio, slope


def test_a_ratio_is_taken_pair_by_pair() -> None:
    """A machine that becomes twice as slow for a block changes no ratio."""
    assert str(ratio([10.0, 20.0, 10.0], [5.0, 10.0, 5.0])) == "2.00 [2.00, 2.00]"


def test_the_interval_is_around_the_median_and_within_the_values() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 100.0])

    assert found.value == 3.0
    assert 1.0 <= found.low <= 3.0 <= found.high <= 100.0
    assert found.low < found.high


def test_the_slope_leaves_out_what_is_there_anyway() -> None:
    assert slope([1000, 4000, 8000], [50e6 + 6000 * count for count in (1000, 4000, 8000)]) == pytest.approx(6000)
