"""Figures that are read when somebody looks, and the counts that they are read from.

What happens often is counted in plain integers where it happens, and read as `Reading`s when the metrics are scraped.
What a figure is called, and which labels it has, is declared in `tidegate.outbound.metrics`. Knows nothing of that.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import msgspec

DELAYS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets for our own delays, in seconds."""

AGES_S = (*DELAYS_S, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets for the age of data, in seconds."""


class Distribution:
    """How many values fell into which bucket.

    `bounds` are the upper bounds of the buckets, ascending, in the unit of the values. A value that equals a bound
    belongs to its bucket. `counts` has one number for each bucket, and a last one for what is above them all.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def note(self, value: float, weight: int = 1) -> None:
        """Count `value`, as if it had come `weight` times."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The present value of one series of the metric `name`. `labels` are its label values, in the declared order.

    A counter's or gauge's value is a number, a histogram's is a `Distribution`. Several readings of a counter with the
    same labels count together.
    """

    name: str
    value: float | Distribution
    labels: tuple[str, ...] = ()


Read = Callable[[], Iterable[Reading]]
"""Makes the readings of now. It may yield them one by one: other things may happen on the event loop between two."""
