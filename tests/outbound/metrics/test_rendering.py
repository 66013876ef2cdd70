import math

import pytest

from tidegate.core.readings import Distribution
from tidegate.outbound.metrics.family import BACKEND, counter, gauge, histogram
from tidegate.outbound.metrics.rendering import Lines, head, number


def test_a_counter_has_another_name_at_the_head_of_openmetrics() -> None:
    family = counter("tidegate_published_bytes_total", "How much?")
    assert head(family, openmetrics=False) == (
        "# HELP tidegate_published_bytes_total How much?\n# TYPE tidegate_published_bytes_total counter\n"
    )
    assert head(family, openmetrics=True) == (
        "# HELP tidegate_published_bytes How much?\n"
        "# TYPE tidegate_published_bytes counter\n"
        "# UNIT tidegate_published_bytes bytes\n"
    )


def test_a_gauge_without_labels() -> None:
    assert Lines(gauge("tidegate_x", "?")).text((), 3) == "tidegate_x 3\n"


def test_what_is_special_in_a_label_is_escaped() -> None:
    text = Lines(gauge("tidegate_x", "?", BACKEND)).text(('a"b\\c\nd%s',), 1.5)
    assert text == 'tidegate_x{backend="a\\"b\\\\c\\nd%s"} 1.5\n'


def test_the_buckets_of_a_histogram_count_all_that_is_below() -> None:
    distribution = Distribution([0.5, 1.0])
    for value in (0.25, 0.75, 3.0):
        distribution.note(value)
    family = histogram("tidegate_x_seconds", "?", BACKEND, buckets=(0.5, 1.0))
    assert Lines(family).text(("engine",), distribution) == (
        'tidegate_x_seconds_bucket{backend="engine",le="0.5"} 1\n'
        'tidegate_x_seconds_bucket{backend="engine",le="1.0"} 2\n'
        'tidegate_x_seconds_bucket{backend="engine",le="+Inf"} 3\n'
        'tidegate_x_seconds_sum{backend="engine"} 4.0\n'
        'tidegate_x_seconds_count{backend="engine"} 3\n'
    )
    text = Lines(histogram("tidegate_x_seconds", "?", buckets=(0.5, 1.0))).text((), distribution)
    assert text.startswith('tidegate_x_seconds_bucket{le="0.5"} 1\n')
    assert text.endswith("tidegate_x_seconds_sum 4.0\ntidegate_x_seconds_count 3\n")


@pytest.mark.parametrize(
    ("value", "text"), [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (1e300, "1e+300"), (7, "7")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
