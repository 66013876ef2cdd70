"""Medians, ratios of what was measured beside each other, and how sure they are."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000
SURE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A median, and between which values the median of such a series lies with 95 % certainty (bootstrap)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """The median of `values` with its interval."""
    chance = random.Random(len(values))
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = int(RESAMPLES * (1 - SURE) / 2)
    return Estimate(statistics.median(values), medians[tail], medians[-tail - 1])


def ratio(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """How `values` compare with `others` of the same blocks, pair by pair."""
    return estimate([value / other for value, other in zip(values, others, strict=True)])


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """How much more `ys` become with each of `xs`: least squares."""
    return statistics.linear_regression(xs, ys).slope
