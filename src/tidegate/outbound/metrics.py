"""The runtime's counters and gauges for Prometheus, in their own registry.

The number of label values is limited: publishers may invent event types and clients may give any reason, so beyond a
limit they all share the value ``other``. Each metric declares which of its series a token with limited types may see;
without a declaration, none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tidegate.core.access.grant import Coverage
from tidegate.core.delivery.outbox import OTHER_TYPES
from tidegate.core.measurements import (
    BreakerMoved,
    BusConnected,
    ClientConnected,
    ClientLeft,
    EventPublished,
    EventsSkipped,
    Measurement,
    PollEnded,
    RequestRefused,
    StoreWritten,
    TicksMissed,
)
from tidegate.core.topics import BUILT_IN_TYPES
from tidegate.errors import RefusalReason

INVENTED_TYPES = 256
"""How many event types get their own label value, in addition to the configured and built-in ones."""

REASONS = 64
"""How many reasons for leaving get their own label value."""

OTHER = "other"
"""The label value of everything beyond a limit."""

TRANSPORTS = ("websocket", "sse", "http")

WRITES = ("ok", "failed")

BREAKER_STATES = ("closed", "half_open", "open")

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

CREATED = "_created"
"""The suffix of the extra series that the library adds to every counter. They are left out: they only cost space."""

START_TIME = "process_start_time_seconds"

Seen = Callable[[Coverage, Mapping[str, str]], bool]
"""Whether a token may see the series with these labels. Only called for tokens that are limited to some types."""


def by_nobody(_: Coverage, __: Mapping[str, str]) -> bool:
    """The default: no limited token may see the metric."""
    return False


def by_everybody(_: Coverage, __: Mapping[str, str]) -> bool:
    """For metrics that reveal nothing about what is polled or published."""
    return True


def by_type(label: str) -> Seen:
    """Visible if the event type in `label` is covered. `OTHER` is not: it counts types of which some may not be."""
    return lambda coverage, labels: labels[label] != OTHER and coverage.types.matches(labels[label])


def by_breaker(label: str) -> Seen:
    """Visible if the breaker in `label` is covered."""
    return lambda coverage, labels: labels[label] in coverage.breakers


class PrometheusMetrics:
    """Implements `tidegate.ports.RenderedMetrics`. Each of `known_types` always has its own label value."""

    def __init__(self, *, version: str, known_types: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._seen: dict[str, Seen] = {START_TIME: by_everybody}
        ProcessCollector(registry=self.registry)
        self._types = _Vocabulary(INVENTED_TYPES, known={*known_types, *BUILT_IN_TYPES})
        self._reasons = _Vocabulary(REASONS)
        gauge, counter, of_type, of_source = self._gauge, self._counter, by_type("type"), by_type("source")
        build_info = gauge(
            "tidegate_build_info", "Always 1; the label says which version runs", "version", seen=by_everybody
        )
        build_info(version).set(1)
        self._published = counter("tidegate_events_published", "Events published", "type", seen=of_type)
        self._deliveries = counter(
            "tidegate_deliveries", "Events delivered; each counts once for each client", "type", seen=of_type
        )
        # Looked up for every event: one look-up, where each counter's would be three.
        self._of_type = lru_cache(maxsize=INVENTED_TYPES)(self._counters_of_type)
        self._skipped = counter("tidegate_events_skipped", "Events dropped for slow clients", "type", seen=of_type)
        self._polls = counter(
            "tidegate_polls", "Polls ended, by error code or `ok`", "source", "outcome", seen=of_source
        )
        self._missed = counter("tidegate_ticks_missed", "Polls that were not made in time", "source", seen=of_source)
        self._moves = counter(
            "tidegate_breaker_transitions",
            "Changes of a breaker to a state",
            "breaker",
            "state",
            seen=by_breaker("breaker"),
        )
        self._connected = counter("tidegate_clients_connected", "Clients that connected", "transport")
        self._left = counter("tidegate_clients_left", "Clients that left", "transport", "reason")
        self._refusals = counter("tidegate_refusals", "Refused requests", "transport", "reason")
        for transport, why in product(TRANSPORTS, RefusalReason):
            # Create every series now: PromQL's `increase` misses the first count of a series that appears later.
            self._refusals(transport, why.value)
        self._clients = gauge("tidegate_clients", "Clients that are connected", "transport", seen=by_everybody)
        self._bus_connected = gauge(
            "tidegate_bus_connected", "1 while the bus is connected, else 0", seen=by_everybody
        )()
        self._writes = counter("tidegate_store_writes", "Writes of values to the state directory", "outcome")
        for outcome in WRITES:
            self._writes(outcome)
        self._unwritten = gauge(
            "tidegate_store_unwritten", "Values that could not be written to the state directory, and wait to be"
        )()
        self._breakers = gauge(
            "tidegate_breaker_state",
            "1 for the state that a breaker is in",
            "breaker",
            "state",
            seen=by_breaker("breaker"),
        )
        self._durations = Histogram(
            "tidegate_poll_duration_seconds",
            "How long polls took",
            ["source"],
            registry=self.registry,
            buckets=DURATIONS_S,
        )
        self._seen["tidegate_poll_duration_seconds"] = of_source
        self._takers: dict[type[Measurement], Callable[[Any], None]] = {
            EventPublished: self._event_published,
            EventsSkipped: self._events_skipped,
            PollEnded: self._poll_ended,
            TicksMissed: self._ticks_missed,
            BreakerMoved: self._breaker_moved,
            ClientConnected: self._client_connected,
            ClientLeft: self._client_left,
            RequestRefused: self._request_refused,
            BusConnected: self._bus_changed,
            StoreWritten: self._store_written,
        }

    def render(self, coverage: Coverage) -> bytes:
        """Return the metrics that a token with `coverage` may see, in Prometheus' text format.

        May be called in another thread.
        """
        return generate_latest(_Covered(self.registry, self._seen, coverage))

    def observe(self, measured: Measurement) -> None:
        """See `tidegate.ports.Metrics`."""
        take = self._takers.get(type(measured))
        if take is not None:
            take(measured)

    def _event_published(self, measured: EventPublished) -> None:
        published, deliveries = self._of_type(measured.type)
        published.inc()
        deliveries.inc(measured.deliveries)

    def _counters_of_type(self, event_type: str) -> tuple[Counter, Counter]:
        label = self._types(event_type)
        return self._published(label), self._deliveries(label)

    def _events_skipped(self, measured: EventsSkipped) -> None:
        self._skipped(OTHER if measured.type == OTHER_TYPES else self._types(measured.type)).inc(measured.count)

    def _poll_ended(self, measured: PollEnded) -> None:
        self._polls(measured.source, "ok" if measured.code is None else measured.code.value).inc()
        self._durations.labels(measured.source).observe(measured.elapsed_s)

    def _ticks_missed(self, measured: TicksMissed) -> None:
        self._missed(measured.source).inc(measured.count)

    def _breaker_moved(self, measured: BreakerMoved) -> None:
        self._moves(measured.breaker, measured.state).inc()
        for one in BREAKER_STATES:
            self._breakers(measured.breaker, one).set(one == measured.state)

    def _client_connected(self, measured: ClientConnected) -> None:
        self._connected(measured.transport).inc()
        self._clients(measured.transport).inc()

    def _client_left(self, measured: ClientLeft) -> None:
        self._left(measured.transport, self._reasons(measured.reason.partition(":")[0])).inc()
        self._clients(measured.transport).dec()

    def _request_refused(self, measured: RequestRefused) -> None:
        self._refusals(measured.transport, measured.reason.value).inc()

    def _bus_changed(self, measured: BusConnected) -> None:
        self._bus_connected.set(measured.connected)

    def _store_written(self, measured: StoreWritten) -> None:
        self._writes("failed" if measured.unwritten else "ok").inc()
        self._unwritten.set(measured.unwritten)

    def _counter(self, name: str, text: str, *labels: str, seen: Seen = by_nobody) -> Callable[..., Counter]:
        """Make a counter. Returns a function from label values to the counter of one series.

        The function caches its results, because the library takes a lock for each look-up; the series are few.
        """
        self._seen[name] = seen
        return cache(Counter(name, text, labels, registry=self.registry).labels)

    def _gauge(self, name: str, text: str, *labels: str, seen: Seen = by_nobody) -> Callable[..., Gauge]:
        self._seen[name] = seen
        gauge = Gauge(name, text, labels, registry=self.registry)
        return cache(gauge.labels) if labels else lambda: gauge  # the library has no `labels()` without labels


class _Vocabulary:
    """Limits label values: the `known` ones, the first `limit` others, and `OTHER` for the rest."""

    def __init__(self, limit: int, known: Iterable[str] = ()) -> None:
        self._values = set(known)
        self._limit = len(self._values) + limit

    def __call__(self, value: str) -> str:
        if value in self._values:
            return value
        if len(self._values) < self._limit:
            self._values.add(value)
            return value
        return OTHER


class _Covered(Collector):
    """The samples of `inner` that a token with `coverage` may see. `seen` has the rule of each metric, by its name."""

    def __init__(self, inner: Collector, seen: Mapping[str, Seen], coverage: Coverage) -> None:
        self._inner = inner
        self._seen = seen
        self._coverage = coverage

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            covered = Metric(family.name, family.documentation, family.type, family.unit)
            covered.samples = [
                sample
                for sample in family.samples
                if not sample.name.endswith(CREATED) and self._is_seen(family.name, sample.labels)
            ]
            if covered.samples or self._coverage.types.is_everything:
                yield covered

    def _is_seen(self, family: str, labels: Mapping[str, str]) -> bool:
        if self._coverage.types.is_everything:
            return True
        return self._seen.get(family, by_nobody)(self._coverage, labels)
