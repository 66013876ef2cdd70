"""The registry of all metrics: it counts measurements, and shows the counts with what is read at each scrape."""

import platform
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import ProcessCollector

from tidegate.core.access.grant import Coverage
from tidegate.core.access.series import may_see_series
from tidegate.core.measurements import Measurement
from tidegate.core.readings import Read, Reading
from tidegate.outbound.metrics.counts import Counts, Series
from tidegate.outbound.metrics.families import FAMILIES
from tidegate.outbound.metrics.families.traffic import STREAM
from tidegate.outbound.metrics.family import Family
from tidegate.outbound.metrics.known import NO_NAMES, ConfiguredNames
from tidegate.outbound.metrics.rendering import END, Lines, head
from tidegate.outbound.metrics.takers import TAKERS

PIECE = 250
"""How many readings or series are handled at once: some 0.5 ms of work."""


class PrometheusMetrics:
    """Implements `tidegate.ports.RenderedMetrics`. Everything is to be called on one event loop.

    `names` are those of the configuration. `compiled` is whether events are sent to many sockets by the module in C.
    """

    def __init__(self, *, version: str, names: ConfiguredNames = NO_NAMES, compiled: bool = True) -> None:
        self._counts = Counts(FAMILIES, names)
        self._counts.set("tidegate_build_info", 1, version, platform.python_version(), "c" if compiled else "python")
        for name in ("tidegate_bus_connected", "tidegate_store_waiting_values"):
            self._counts.set(name, 0)
        for transport in STREAM.values:
            self._counts.set("tidegate_clients", 0, transport)
        self._process = ProcessCollector(registry=None)
        self._reads: list[Read] = [self._process_readings]

    def follow(self, names: ConfiguredNames) -> None:
        """Take the names of another configuration.

        The series of what is gone are dropped, and are not counted any more. Those of what is new begin with 0.
        """
        self._counts.follow(names)

    def observe(self, measured: Measurement) -> None:
        """See `tidegate.ports.Metrics`."""
        take = TAKERS.get(type(measured))
        if take is not None:
            take(self._counts, measured)

    def read_from(self, read: Read) -> None:
        """See `tidegate.ports.Metrics`."""
        self._reads.append(read)

    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        """See `tidegate.ports.RenderedMetrics`."""
        read: dict[str, Series] = {}
        for n, reading in enumerate(self._readings(), 1):
            self._counts.take(reading, read)
            if n % PIECE == 0:
                yield b""
        piece: list[str] = []
        for family in FAMILIES:
            lines, is_seen = Lines(family), seen_by(coverage, family)
            shown = (each for each in self._counts.together(family, read.pop(family.name, {})) if is_seen(each[0]))
            for n, (labels, value) in enumerate(shown):
                if n == 0:
                    piece.append(head(family, openmetrics=openmetrics))
                piece.append(lines.text(labels, value))
                if len(piece) >= PIECE:
                    yield "".join(piece).encode()
                    piece.clear()
        yield "".join([*piece, END if openmetrics else ""]).encode()

    def _readings(self) -> Iterator[Reading]:
        for read in list(self._reads):
            yield from read()

    def _process_readings(self) -> Iterable[Reading]:
        for metric in self._process.collect():
            for sample in metric.samples:
                yield Reading(sample.name, sample.value)


def seen_by(coverage: Coverage, family: Family) -> Callable[[tuple[str, ...]], bool]:
    """Return a function that tells whether a token with `coverage` may see the series with these label values."""
    at = family.deciding
    if coverage.types.is_everything or at is None:
        is_seen = coverage.types.is_everything or family.shown
        return lambda _: is_seen
    label = family.labels[at].name
    return lambda labels: may_see_series(coverage, label, labels[at])
