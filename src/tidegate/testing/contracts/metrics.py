"""The contract of `tidegate.ports.Metrics`, and of `RenderedMetrics`."""

import re
import unittest
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from tidegate.core.access.grant import EVERYTHING, Coverage
from tidegate.core.measurements import (
    BreakerMoved,
    ClientConnected,
    ClientLeft,
    HintTaken,
    KnockEnded,
    Measurement,
    OutageEnded,
    PollEnded,
    PollStarted,
    RepetitionEnded,
    RequestRefused,
    StoreWritten,
    TicksMissed,
)
from tidegate.core.readings import Reading
from tidegate.core.topics import PatternSet
from tidegate.errors import ErrorCode, LeaveReason, RefusalReason
from tidegate.ports import Metrics, RenderedMetrics

ALL = Coverage(types=EVERYTHING, breakers=frozenset(), backends=frozenset())
NOTHING = Coverage(types=PatternSet([]), breakers=frozenset(), backends=frozenset())

ODD_NAMES = ("a.b", "", 'q"\n\\', "ä" * 300)

_LINE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*",?)*\})? \S+( [0-9]+)?')
"""One sample in Prometheus' text format, version 0.0.4."""


class _Unknown(Measurement, frozen=True):
    """A measurement of a later version of Tidegate."""

    n: int = 1


class MetricsContract(ABC):
    """Tests for metrics. The tests of `render` are skipped for metrics without it."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Metrics]:
        """Make new metrics, with nothing recorded."""

    async def test_it_takes_every_measurement_whatever_its_labels(self) -> None:
        async with self.opened() as metrics:
            _tell_all(metrics)

    async def test_it_ignores_a_measurement_that_it_does_not_know(self) -> None:
        async with self.opened() as metrics:
            metrics.observe(_Unknown())
            metrics.observe(TicksMissed("a.b", 1))

    async def test_it_is_shown_in_the_text_format_of_prometheus(self) -> None:
        async with self.opened() as metrics:
            _tell_all(metrics)
            for line in _text(metrics).split("\n"):
                assert not line or line.startswith("# ") or _LINE.fullmatch(line), line

    async def test_openmetrics_ends_with_its_last_line(self) -> None:
        async with self.opened() as metrics:
            metrics.observe(TicksMissed("a.b", 1))
            text = b"".join(_shown(metrics).render(ALL, openmetrics=True)).decode()
            assert not text or text.endswith("\n# EOF\n")

    async def test_more_is_measured_between_two_pieces(self) -> None:
        async with self.opened() as metrics:
            for piece in _shown(metrics).render(ALL):
                _tell_all(metrics)
                metrics.read_from(list)
                piece.decode()

    async def test_what_is_read_of_unknown_names_is_ignored(self) -> None:
        async with self.opened() as metrics:
            metrics.read_from(lambda: [Reading("not_declared_anywhere", 1.0, ("a",))])
            assert "not_declared_anywhere" not in _text(metrics)

    async def test_an_event_type_that_is_not_covered_is_not_shown(self) -> None:
        async with self.opened() as metrics:
            metrics.observe(PollEnded("very.secret", "very.secret", ErrorCode.RPC_TIMEOUT, 0.1))
            metrics.observe(TicksMissed("very.secret", 1))
            assert "very.secret" not in _text(metrics, NOTHING)

    async def test_a_backend_that_is_not_covered_is_not_shown(self) -> None:
        async with self.opened() as metrics:
            metrics.observe(BreakerMoved("very-secret", "open"))
            metrics.observe(KnockEnded("very-secret", "reachable"))
            metrics.observe(RepetitionEnded("very-secret", "answered"))
            metrics.observe(HintTaken("very-secret", "for_all"))
            metrics.observe(OutageEnded("very-secret", 60.0))
            assert "very-secret" not in _text(metrics, NOTHING)


def _shown(metrics: Metrics) -> RenderedMetrics:
    if not isinstance(metrics, RenderedMetrics):
        raise unittest.SkipTest("these metrics cannot be shown")
    return metrics


def _text(metrics: Metrics, coverage: Coverage = ALL) -> str:
    return b"".join(_shown(metrics).render(coverage)).decode()


def _tell_all(metrics: Metrics) -> None:
    for text in ODD_NAMES:
        metrics.observe(PollEnded(text, text, None, 0.1))
        metrics.observe(PollEnded(text, text, ErrorCode.RPC_TIMEOUT, 2.0))
        metrics.observe(TicksMissed(text, 2))
        metrics.observe(BreakerMoved(text, "open"))
        metrics.observe(KnockEnded(text, "unreachable"))
        metrics.observe(RepetitionEnded(text, "no_room"))
        metrics.observe(HintTaken(text, "failed"))
        metrics.observe(OutageEnded(text, 60.0))
        metrics.observe(ClientConnected(text))
        metrics.observe(ClientLeft(text, LeaveReason.ERROR))
        metrics.observe(PollStarted(0.01))
        metrics.observe(RequestRefused("http", RefusalReason.BAD_TOKEN))
        metrics.observe(StoreWritten(0))
