"""Fake metrics that record everything."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tidegate.core.access.grant import Coverage
from tidegate.core.measurements import Measurement
from tidegate.core.readings import Read, Reading


class RecordingMetrics:
    """Implements `tidegate.ports.RenderedMetrics`: `observed` has every measurement, in order."""

    def __init__(self) -> None:
        self.observed: list[Measurement] = []
        self._reads: list[Read] = []

    def observe(self, measured: Measurement) -> None:
        """See `tidegate.ports.Metrics`."""
        self.observed.append(measured)

    def read_from(self, read: Read) -> None:
        """See `tidegate.ports.Metrics`."""
        self._reads.append(read)

    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        """Yield nothing: a test reads `observed` and `readings` instead."""
        del coverage, openmetrics
        yield b""

    def readings(self, name: str) -> list[Reading]:
        """Return what is read now of the metric `name`."""
        return [reading for read in self._reads for reading in read() if reading.name == name]

    def named(self, tag: str) -> list[tuple[Any, ...]]:
        """Return the fields of every measurement with this tag, such as ``poll_ended``."""
        return [msgspec.structs.astuple(each) for each in self.observed if each.__struct_config__.tag == tag]
