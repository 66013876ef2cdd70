"""Metrics that a test can look at."""

from typing import Any

from tidegate.core.grant import Coverage
from tidegate.errors import ErrorCode


class RecordingMetrics:
    """Implements `tidegate.ports.RenderedMetrics`: `calls` holds every call, its name first, then its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def published(self, event_type: str, deliveries: int) -> None:
        self.calls.append(("published", event_type, deliveries))

    def poll_ended(self, source: str, code: ErrorCode | None, elapsed_s: float) -> None:
        self.calls.append(("poll_ended", source, code, elapsed_s))

    def ticks_missed(self, source: str, count: int) -> None:
        self.calls.append(("ticks_missed", source, count))

    def breaker_changed(self, breaker: str, state: str) -> None:
        self.calls.append(("breaker_changed", breaker, state))

    def client_connected(self, transport: str) -> None:
        self.calls.append(("client_connected", transport))

    def client_left(self, transport: str, reason: str) -> None:
        self.calls.append(("client_left", transport, reason))

    def events_skipped(self, event_type: str, count: int) -> None:
        self.calls.append(("events_skipped", event_type, count))

    def render(self, coverage: Coverage) -> bytes:
        """Nothing: `calls` is what there is to see."""
        del coverage
        return b""

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of `name`."""
        return [call[1:] for call in self.calls if call[0] == name]
