"""Metrics that a test can look at."""

from typing import Any

import msgspec

from tidegate.core.grant import Coverage
from tidegate.core.measurements import Measurement


class RecordingMetrics:
    """Implements `tidegate.ports.RenderedMetrics`: `observed` holds every measurement, in order."""

    def __init__(self) -> None:
        self.observed: list[Measurement] = []

    def observe(self, measured: Measurement) -> None:
        """See `tidegate.ports.Metrics`."""
        self.observed.append(measured)

    def render(self, coverage: Coverage) -> bytes:
        """Nothing: `observed` is what there is to see."""
        del coverage
        return b""

    def named(self, tag: str) -> list[tuple[Any, ...]]:
        """The fields of every measurement with the tag, as ``poll_ended``."""
        return [msgspec.structs.astuple(each) for each in self.observed if each.__struct_config__.tag == tag]
