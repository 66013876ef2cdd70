"""The runtime's counters, gauges and histograms for Prometheus, in their own registry.

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
from tidegate.core.access.series import OTHER, Seen, by_backend, by_breaker, by_everybody, by_nobody, by_type
from tidegate.core.delivery.outbox import OTHER_TYPES
from tidegate.core.measurements import (
    BreakerMoved,
    BusConnected,
    ClientConnected,
    ClientLeft,
    EventPublished,
    EventsSkipped,
    HintTaken,
    KnockEnded,
    Measurement,
    OutageEnded,
    PollEnded,
    RepetitionEnded,
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

TRANSPORTS = ("websocket", "sse", "http")

WRITES = ("ok", "failed")

BREAKER_STATES = ("closed", "half_open", "open")

KNOCKS = ("reachable", "unreachable", "dropped")

REPETITIONS = ("answered", "failed", "no_room")

HINTS = ("for_all", "for_some", "for_none", "too_many", "failed")

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

OUTAGES_S = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""From one lost packet to a reboot. A longer outage is a matter for people, who look at the clock."""

CREATED = "_created"
"""The suffix of the extra series that the library adds to every counter. They are left out: they only cost space."""

START_TIME = "process_start_time_seconds"


class PrometheusMetrics:
    """Implements `tidegate.ports.RenderedMetrics`.

    Each of `known_types` always has its own label value. The series of `known_backends` are there from the start.
    """

    def __init__(self, *, version: str, known_types: Iterable[str] = (), known_backends: Iterable[str] = ()) -> None:
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
        self._durations = self._histogram(
            "tidegate_poll_duration_seconds", "How long polls took", "source", buckets=DURATIONS_S, seen=of_source
        )
        of_backend = by_backend("backend")
        self._knocks = counter(
            "tidegate_knocks", "Attempts to connect while a breaker is open", "backend", "result", seen=of_backend
        )
        self._repetitions = counter(
            "tidegate_repetitions", "Failed polls repeated before their next tick", "backend", "result", seen=of_backend
        )
        self._hints = counter(
            "tidegate_hints", "What backends said of changes, by whom it is for", "backend", "result", seen=of_backend
        )
        self._outages = self._histogram(
            "tidegate_outage_seconds",
            "From the first failure of a backend until all its sources were fresh again",
            "backend",
            buckets=OUTAGES_S,
            seen=of_backend,
        )
        for backend in known_backends:  # now, for the same reason as `_refusals`
            for result in KNOCKS:
                self._knocks(backend, result)
            for result in REPETITIONS:
                self._repetitions(backend, result)
            for result in HINTS:
                self._hints(backend, result)
            self._outages(backend)
        self._takers: dict[type[Measurement], Callable[[Any], None]] = {
            EventPublished: self._event_published,
            EventsSkipped: self._events_skipped,
            PollEnded: self._poll_ended,
            TicksMissed: self._ticks_missed,
            BreakerMoved: self._breaker_moved,
            KnockEnded: self._knock_ended,
            RepetitionEnded: self._repetition_ended,
            HintTaken: self._hint_taken,
            OutageEnded: self._outage_ended,
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
        self._durations(measured.source).observe(measured.elapsed_s)

    def _ticks_missed(self, measured: TicksMissed) -> None:
        self._missed(measured.source).inc(measured.count)

    def _breaker_moved(self, measured: BreakerMoved) -> None:
        self._moves(measured.breaker, measured.state).inc()
        for one in BREAKER_STATES:
            self._breakers(measured.breaker, one).set(one == measured.state)

    def _knock_ended(self, measured: KnockEnded) -> None:
        self._knocks(measured.backend, measured.result).inc()

    def _repetition_ended(self, measured: RepetitionEnded) -> None:
        self._repetitions(measured.backend, measured.result).inc()

    def _hint_taken(self, measured: HintTaken) -> None:
        self._hints(measured.backend, measured.result).inc()

    def _outage_ended(self, measured: OutageEnded) -> None:
        self._outages(measured.backend).observe(measured.elapsed_s)

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

    def _histogram(
        self, name: str, text: str, label: str, *, buckets: tuple[float, ...], seen: Seen
    ) -> Callable[[str], Histogram]:
        self._seen[name] = seen
        return cache(Histogram(name, text, [label], registry=self.registry, buckets=buckets).labels)


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
