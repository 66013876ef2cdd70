"""The runtime's counters and gauges for Prometheus, on a registry of their own.

Labels are bounded: event types that publishers invent and reasons that clients give share ``other`` once there are
too many of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tidegate.core.topics import BUILT_IN_TYPES, UNCOVERED_PATTERNS, PatternSet
from tidegate.errors import ErrorCode, RefusalReason

INVENTED_TYPES = 256
"""Event types beside the known ones that get a label value of their own."""

REASONS = 64

OTHER = "other"

TRANSPORTS = ("websocket", "sse", "http")

BREAKER_STATES = ("closed", "half_open", "open")

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

CREATED = "_created"
"""What the library adds to every counter: a series more for each, that nobody asked for."""

TYPE_LABELS = ("type", "source")


class PrometheusMetrics:
    """Implements `tidegate.ports.Metrics`. `known_types` always have a label value of their own."""

    def __init__(self, *, version: str, known_types: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._types = _Vocabulary(INVENTED_TYPES, known={*known_types, *BUILT_IN_TYPES})
        self._reasons = _Vocabulary(REASONS)
        gauge, counter = self._gauge, self._counter
        gauge("tidegate_build_info", "Always 1; the label says which version runs", "version")(version).set(1)
        self._published = counter("tidegate_events_published", "Events published", "type")
        self._deliveries = counter("tidegate_deliveries", "Events times the clients that they went to", "type")
        self._skipped = counter("tidegate_events_skipped", "Events that slow clients were not sent", "type")
        self._polls = counter("tidegate_polls", "Polls ended, by error code or `ok`", "source", "outcome")
        self._missed = counter("tidegate_ticks_missed", "Polls that were not due in time", "source")
        self._moves = counter("tidegate_breaker_transitions", "Moves of a breaker into a state", "breaker", "state")
        self._connected = counter("tidegate_clients_connected", "Clients that connected", "transport")
        self._left = counter("tidegate_clients_left", "Clients that left", "transport", "reason")
        self._refusals = counter("tidegate_refusals", "Requests that were not let in", "transport", "reason")
        for transport, why in product(TRANSPORTS, RefusalReason):
            self._refusals(transport, why.value)  # there from the start: `increase` misses the first of any other
        self._clients = gauge("tidegate_clients", "Clients that are connected", "transport")
        self._breakers = gauge("tidegate_breaker_state", "1 for the state that a breaker is in", "breaker", "state")
        self._durations = Histogram(
            "tidegate_poll_duration_seconds",
            "How long polls took",
            ["source"],
            registry=self.registry,
            buckets=DURATIONS_S,
        )

    def render(self, allowed: PatternSet) -> bytes:
        """Everything that speaks of no event type, or of one that `allowed` matches, in Prometheus' text format.

        May be called in another thread.
        """
        return generate_latest(_Covered(self.registry, allowed))

    def published(self, event_type: str, deliveries: int) -> None:
        label = self._types(event_type)
        self._published(label).inc()
        self._deliveries(label).inc(deliveries)

    def poll_ended(self, source: str, code: ErrorCode | None, elapsed_s: float) -> None:
        self._polls(source, "ok" if code is None else code.value).inc()
        self._durations.labels(source).observe(elapsed_s)

    def ticks_missed(self, source: str, count: int) -> None:
        self._missed(source).inc(count)

    def breaker_changed(self, breaker: str, state: str) -> None:
        self._moves(breaker, state).inc()
        for one in BREAKER_STATES:
            self._breakers(breaker, one).set(one == state)

    def client_connected(self, transport: str) -> None:
        self._connected(transport).inc()
        self._clients(transport).inc()

    def client_left(self, transport: str, reason: str) -> None:
        self._left(transport, self._reasons(reason.partition(":")[0])).inc()
        self._clients(transport).dec()

    def events_skipped(self, event_type: str, count: int) -> None:
        self._skipped(self._types(event_type)).inc(count)

    def refused(self, transport: str, reason: RefusalReason) -> None:
        self._refusals(transport, reason.value).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        """The counter of given label values. They are few, so each is looked up under the library's lock once."""
        return cache(Counter(name, text, labels, registry=self.registry).labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Callable[..., Gauge]:
        return cache(Gauge(name, text, labels, registry=self.registry).labels)


class _Vocabulary:
    """Label values: `known` ones, the first `limit` others, then `OTHER`."""

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
    """The samples of `inner` that may be seen."""

    def __init__(self, inner: Collector, allowed: PatternSet) -> None:
        self._inner = inner
        self._allowed = allowed

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            covered = Metric(family.name, family.documentation, family.type, family.unit)
            covered.samples = [
                sample
                for sample in family.samples
                if self._visible(sample.labels) and not sample.name.endswith(CREATED)
            ]
            yield covered

    def _visible(self, labels: Mapping[str, str]) -> bool:
        about = [labels[name] for name in TYPE_LABELS if name in labels]
        if (own := labels.get("breaker", "").partition("/")[2]) != "":
            about.append(own)
        return all(self._allowed.matches(one) or one in UNCOVERED_PATTERNS for one in about)
