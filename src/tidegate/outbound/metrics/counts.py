"""The counts of what happens, by metric and label values, as plain numbers.

The series that a configuration and the enumerations lead to are there from the start, as PromQL's ``increase`` misses
the first count of a series that appears later. A series of what was removed from the configuration is dropped, and does
not come back.
"""

from collections.abc import Iterable, Iterator, Mapping

from tidegate.core.readings import Distribution, Reading
from tidegate.outbound.metrics.family import Family
from tidegate.outbound.metrics.known import ConfiguredNames, KnownNames

Value = float | Distribution

Series = dict[tuple[str, ...], Value]
"""The series of one metric: its value by its label values."""


class Counts:
    """The counts of `families`. Whoever names a metric must have declared it there."""

    def __init__(self, families: Iterable[Family], configured: ConfiguredNames) -> None:
        self._families: Mapping[str, Family] = {family.name: family for family in families}
        self._known = KnownNames(configured)
        self._series: dict[str, Series] = {name: {} for name in self._families}
        self._shown: dict[str, set[tuple[str, ...]]] = {name: set() for name in self._families}
        self._complete()

    def follow(self, configured: ConfiguredNames) -> None:
        """Take the names of another configuration: drop the series of what is gone, and add those of what is new."""
        self._known.follow(configured)
        for name, series in self._series.items():
            family = self._families[name]
            kept = {labels: value for labels, value in series.items() if self._is_kept(family, labels)}
            self._series[name] = kept
        for shown in self._shown.values():
            shown.clear()
        self._complete()

    def add(self, name: str, count: float, *labels: str) -> None:
        """Add `count` to a counter, or to a gauge."""
        series = self._series[name]
        if labels in series:
            series[labels] += count  # type: ignore[operator]  # it is no histogram
        elif (shown := self._known.label_values(self._families[name], labels)) is not None:
            series[shown] = series.get(shown, 0) + count  # type: ignore[operator]

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        shown = self._known.label_values(self._families[name], labels)
        if shown is not None:
            self._series[name][shown] = value

    def note(self, name: str, value: float, *labels: str) -> None:
        """Count `value` in a histogram."""
        distribution = self._series[name].get(labels)
        if distribution is not None:  # a histogram has only labels of the configuration: all its series are there
            distribution.note(value)  # type: ignore[union-attr]

    def take(self, reading: Reading, into: dict[str, Series]) -> None:
        """Add `reading` to the series in `into`, by metric. One of an unknown name is ignored."""
        family = self._families.get(reading.name)
        if family is None:
            return
        labels: tuple[str, ...] | None = reading.labels
        if labels not in self._shown[family.name]:
            labels = self._known.label_values(family, reading.labels)
            if labels is None:
                return
            self._shown[family.name].add(labels)
        series = into.setdefault(family.name, {})
        if family.kind == "counter":
            series[labels] = series.get(labels, 0) + reading.value  # type: ignore[operator]
        else:
            series[labels] = reading.value

    def together(self, family: Family, read: Series) -> Iterator[tuple[tuple[str, ...], Value]]:
        """Yield each series of a metric: what was counted, together with what was `read` of it.

        Others may count between two of them, and the names may change.
        """
        counted = self._series[family.name]
        for labels in list(counted):
            value = counted.get(labels)
            if value is not None:
                more = read.pop(labels, None)
                if more is not None:
                    value = value + more if family.kind == "counter" else more  # type: ignore[operator]
                yield labels, value
        yield from read.items()

    def _complete(self) -> None:
        for name, family in self._families.items():
            if family.kind == "gauge":
                continue
            series = self._series[name]
            for labels in self._known.initial(family):
                if labels not in series:
                    series[labels] = Distribution(family.buckets) if family.kind == "histogram" else 0

    def _is_kept(self, family: Family, labels: tuple[str, ...]) -> bool:
        return self._known.label_values(family, labels) == labels
