"""Writes metrics as text: in Prometheus' format 0.0.4, or as OpenMetrics 1.0.

Both have one line for each series. They differ in the names of counters at the head of a metric, in the unit, and in
the last line. https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/ describe them.
"""

import math
import re
from itertools import accumulate

from tidegate.core.readings import Distribution
from tidegate.outbound.metrics.counts import Value
from tidegate.outbound.metrics.family import Family

END = "# EOF\n"
"""The last line of OpenMetrics."""

_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_SPECIAL = re.compile(r'["\\\n]').search


def head(family: Family, *, openmetrics: bool) -> str:
    """Return the lines that come before the series of `family`."""
    name = family.base if openmetrics else family.name
    unit = f"# UNIT {name} {family.unit}\n" if openmetrics and family.unit else ""
    return f"# HELP {name} {family.question}\n# TYPE {name} {family.kind}\n{unit}"


class Lines:
    """Writes the series of one metric: each is one line, or for a histogram several together."""

    def __init__(self, family: Family) -> None:
        self._name = family.name
        self._labels = ",".join(f'{label.name}="%s"' for label in family.labels)

    def text(self, values: tuple[str, ...], value: Value) -> str:
        """Return the text of the series with these label values."""
        if _SPECIAL("".join(values)):
            values = tuple(text.translate(_ESCAPED) for text in values)
        labels = self._labels % values
        if isinstance(value, Distribution):
            return _histogram(self._name, labels, value)
        return f"{self._name}{{{labels}}} {number(value)}\n" if labels else f"{self._name} {number(value)}\n"


def number(value: float) -> str:
    """Return `value` as both formats write it."""
    if value.__class__ is int or math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def _histogram(name: str, labels: str, value: Distribution) -> str:
    before = f"{labels}," if labels else ""
    braces = f"{{{labels}}}" if labels else ""
    bounds = [*map(repr, value.bounds), "+Inf"]
    counts = list(accumulate(value.counts))
    buckets = [f'{name}_bucket{{{before}le="{le}"}} {n}\n' for le, n in zip(bounds, counts, strict=True)]
    return "".join([*buckets, f"{name}_sum{braces} {number(value.sum)}\n", f"{name}_count{braces} {counts[-1]}\n"])
