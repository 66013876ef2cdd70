"""Fake metrics that record everything."""

from typing import Any

import msgspec

from tidegate.core.access.grant import Coverage
from tidegate.core.measurements import Measurement


class RecordingMetrics:
    """Implements `tidegate.ports.RenderedMetrics`: `observed` has every measurement, in order."""

    def __init__(self) -> None:
        self.observed: list[Measurement] = []

    def observe(self, measured: Measurement) -> None:
        """See `tidegate.ports.Metrics`."""
        self.observed.append(measured)

    def render(self, coverage: Coverage) -> bytes:
        """Return nothing: a test reads `observed` instead."""
        del coverage
        return b""

    def named(self, tag: str) -> list[tuple[Any, ...]]:
        """Return the fields of every measurement with this tag, such as ``poll_ended``."""
        return [msgspec.structs.astuple(each) for each in self.observed if each.__struct_config__.tag == tag]
