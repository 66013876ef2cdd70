from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client.parser import text_string_to_metric_families

from tidegate.core.access.grant import EVERYTHING, Coverage
from tidegate.core.measurements import TicksMissed
from tidegate.outbound.metrics import PrometheusMetrics
from tidegate.ports import Metrics, RenderedMetrics
from tidegate.testing import RecordingMetrics
from tidegate.testing.contracts import MetricsContract


class TestPrometheusMetrics(MetricsContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Metrics]:
        yield PrometheusMetrics(version="1")

    async def test_its_own_library_reads_what_is_shown(self) -> None:
        async with self.opened() as metrics:
            assert isinstance(metrics, RenderedMetrics)
            for text in ("a.b", "", 'q"\n', "ä" * 300):
                metrics.observe(TicksMissed(text, 3))
            coverage = Coverage(types=EVERYTHING, breakers=frozenset(), backends=frozenset())
            assert list(text_string_to_metric_families(b"".join(metrics.render(coverage)).decode()))


class TestRecordingMetrics(MetricsContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Metrics]:
        yield RecordingMetrics()
