"""What Prometheus reads: names, values, bounded labels, and only what a token covers."""

from typing import get_args, get_type_hints

from prometheus_client.parser import text_string_to_metric_families

from tidegate.core.access.grant import EVERYTHING, Coverage
from tidegate.core.access.series import by_breaker
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
from tidegate.core.topics import PatternSet
from tidegate.errors import ErrorCode, RefusalReason
from tidegate.outbound.metrics import INVENTED_TYPES, REASONS, PrometheusMetrics
from tidegate.ports import Metrics

LABELS = ("version", "type", "source", "outcome", "breaker", "state", "transport", "reason", "backend", "result", "le")

Samples = dict[tuple[str, ...], float]


ALL = Coverage(types=EVERYTHING, breakers=frozenset(), backends=frozenset())


def samples(metrics: PrometheusMetrics, name: str, coverage: Coverage = ALL) -> Samples:
    """The values of one metric, by its label values in the order of `LABELS`."""
    text = metrics.render(coverage).decode()
    return {
        tuple(sample.labels[label] for label in LABELS if label in sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def made(*backends: str) -> PrometheusMetrics:
    types = ["system.status", "storage.update"]
    return PrometheusMetrics(version="0.1.0", known_types=types, known_backends=backends)


def test_it_is_the_port_that_the_runtime_feeds() -> None:
    port: Metrics = made()
    port.observe(EventPublished("system.status", 3))


def test_published_events_and_their_deliveries() -> None:
    metrics = made()
    metrics.observe(EventPublished("system.status", 3))
    metrics.observe(EventPublished("system.status", 4))
    assert samples(metrics, "tidegate_events_published_total") == {("system.status",): 2}
    assert samples(metrics, "tidegate_deliveries_total") == {("system.status",): 7}
    assert b"_created" not in metrics.render(ALL)


def test_skipped_events() -> None:
    metrics = made()
    metrics.observe(EventsSkipped("system.status", 5))
    metrics.observe(EventsSkipped(OTHER_TYPES, 2))
    assert samples(metrics, "tidegate_events_skipped_total") == {("system.status",): 5, ("other",): 2}


def test_polls_and_their_duration() -> None:
    metrics = made()
    metrics.observe(PollEnded("system.status", None, 0.02))
    metrics.observe(PollEnded("system.status", ErrorCode.RPC_TIMEOUT, 2.0))
    metrics.observe(TicksMissed("system.status", 2))
    assert samples(metrics, "tidegate_polls_total") == {
        ("system.status", "ok"): 1,
        ("system.status", "RPC_TIMEOUT"): 1,
    }
    assert samples(metrics, "tidegate_poll_duration_seconds_sum") == {("system.status",): 2.02}
    assert samples(metrics, "tidegate_ticks_missed_total") == {("system.status",): 2}


def test_a_breaker_is_in_one_state() -> None:
    metrics = made()
    for state in ("closed", "open", "half_open"):
        metrics.observe(BreakerMoved("engine", state))
    assert samples(metrics, "tidegate_breaker_state") == {
        ("engine", "closed"): 0,
        ("engine", "open"): 0,
        ("engine", "half_open"): 1,
    }
    assert samples(metrics, "tidegate_breaker_transitions_total")["engine", "open"] == 1


def test_knocks_and_repetitions_by_their_results() -> None:
    metrics = made("engine")
    metrics.observe(KnockEnded("engine", "unreachable"))
    metrics.observe(KnockEnded("engine", "unreachable"))
    metrics.observe(KnockEnded("engine", "reachable"))
    metrics.observe(RepetitionEnded("engine", "answered"))
    assert samples(metrics, "tidegate_knocks_total") == {
        ("engine", "reachable"): 1,
        ("engine", "unreachable"): 2,
        ("engine", "dropped"): 0,
    }
    assert samples(metrics, "tidegate_repetitions_total") == {
        ("engine", "answered"): 1,
        ("engine", "failed"): 0,
        ("engine", "no_room"): 0,
    }


def test_writes_of_the_store_are_counted_and_what_waits_for_the_disk_is_shown() -> None:
    metrics = made()
    assert samples(metrics, "tidegate_store_writes_total") == {("ok",): 0, ("failed",): 0}
    seen = []
    for unwritten in (0, 7, 9, 0):
        metrics.observe(StoreWritten(unwritten))
        seen.append(samples(metrics, "tidegate_store_unwritten")[()])
    assert seen == [0, 7, 9, 0]
    assert samples(metrics, "tidegate_store_writes_total") == {("ok",): 2, ("failed",): 2}


def test_what_a_knock_a_repetition_and_a_hint_can_come_to_is_counted_from_the_start() -> None:
    metrics = made("engine")
    kinds = {KnockEnded: "knocks", RepetitionEnded: "repetitions", HintTaken: "hints"}
    for kind, name in kinds.items():
        results = get_args(get_type_hints(kind)["result"])
        assert samples(metrics, f"tidegate_{name}_total") == {("engine", result): 0 for result in results}
    assert samples(metrics, "tidegate_outage_seconds_count") == {("engine",): 0}


def test_outages_fall_into_buckets_from_half_a_second_to_an_hour() -> None:
    metrics = made()
    for elapsed_s in (0.4, 61.0, 7200.0):
        metrics.observe(OutageEnded("engine", elapsed_s))
    assert samples(metrics, "tidegate_outage_seconds_sum") == {("engine",): 7261.4}
    counts = samples(metrics, "tidegate_outage_seconds_bucket")
    assert [counts["engine", le] for le in ("0.5", "60.0", "120.0", "3600.0", "+Inf")] == [1, 1, 2, 2, 3]


def test_clients_come_and_go() -> None:
    metrics = made()
    metrics.observe(ClientConnected("sse"))
    metrics.observe(ClientConnected("websocket"))
    metrics.observe(ClientLeft("sse", "closed by the server with 4408: more than 10 bytes"))
    assert samples(metrics, "tidegate_clients") == {("sse",): 0, ("websocket",): 1}
    assert samples(metrics, "tidegate_clients_connected_total") == {("sse",): 1, ("websocket",): 1}
    assert samples(metrics, "tidegate_clients_left_total") == {("sse", "closed by the server with 4408"): 1}


def test_every_refusal_is_there_from_the_start() -> None:
    metrics = made()
    none = samples(metrics, "tidegate_refusals_total")
    assert set(none) == {(transport, why.value) for transport in ("websocket", "sse", "http") for why in RefusalReason}
    assert set(none.values()) == {0}
    metrics.observe(RequestRefused("sse", RefusalReason.BAD_TOKEN))
    assert samples(metrics, "tidegate_refusals_total")["sse", "bad_token"] == 1


def test_build_info() -> None:
    assert samples(made(), "tidegate_build_info") == {("0.1.0",): 1}


def test_the_bus_is_connected_or_not_and_every_token_sees_it() -> None:
    metrics = made()
    seen = []
    for connected in (True, False, True):
        metrics.observe(BusConnected(connected))
        seen.append(samples(metrics, "tidegate_bus_connected", NARROW)[()])
    assert seen == [1, 0, 1]


def test_before_the_bus_was_opened_it_is_not_connected() -> None:
    assert samples(made(), "tidegate_bus_connected") == {(): 0}


def test_what_outsiders_name_does_not_grow_for_ever() -> None:
    metrics = made()
    for n in range(INVENTED_TYPES + 10):
        metrics.observe(EventPublished(f"app.t{n}", 1))
        metrics.observe(ClientLeft("sse", f"closed by the client with {3000 + n}"))
    metrics.observe(EventPublished("storage.update", 1))
    metrics.observe(EventPublished("app.t0", 1))
    published = samples(metrics, "tidegate_events_published_total")
    assert published["other",] == 10
    assert published["storage.update",] == 1
    assert published["app.t0",] == 2
    assert len(published) == INVENTED_TYPES + 2
    assert len(samples(metrics, "tidegate_clients_left_total")) == REASONS + 1


NARROW = Coverage(
    types=PatternSet(["system.*"]),
    breakers=frozenset({"disks", "engine/system.status"}),
    backends=frozenset({"engine"}),
)


def test_a_narrow_token_sees_what_it_covers() -> None:
    metrics = made()
    for event_type in ("system.status", "storage.update", "rpc_error", "heartbeat"):
        metrics.observe(EventPublished(event_type, 1))
        metrics.observe(EventsSkipped(event_type, 1))
        metrics.observe(PollEnded(event_type, None, 0.1))
        metrics.observe(TicksMissed(event_type, 1))
    for breaker in ("disks", "disks/storage.update", "engine/system.status", "other"):
        metrics.observe(BreakerMoved(breaker, "open"))
    for backend in ("engine", "other"):
        metrics.observe(KnockEnded(backend, "reachable"))
        metrics.observe(RepetitionEnded(backend, "failed"))
        metrics.observe(HintTaken(backend, "for_some"))
        metrics.observe(OutageEnded(backend, 1.0))
    for name in ("knocks_total", "repetitions_total", "hints_total", "outage_seconds_bucket", "outage_seconds_sum"):
        assert {backend for backend, *_ in samples(metrics, f"tidegate_{name}", NARROW)} == {"engine"}
    for name in ("events_published_total", "deliveries_total", "events_skipped_total", "ticks_missed_total"):
        assert set(samples(metrics, f"tidegate_{name}", NARROW)) == {("system.status",)}
    assert set(samples(metrics, "tidegate_polls_total", NARROW)) == {("system.status", "ok")}
    assert set(samples(metrics, "tidegate_poll_duration_seconds_count", NARROW)) == {("system.status",)}
    for name in ("breaker_state", "breaker_transitions_total"):
        seen = {breaker for breaker, _ in samples(metrics, f"tidegate_{name}", NARROW)}
        assert seen == {"disks", "engine/system.status"}
    for hidden in (b"storage.update", b"rpc_error", b"heartbeat", b"other"):
        assert hidden not in metrics.render(NARROW)
        assert hidden in metrics.render(ALL)


def test_of_the_gateway_itself_a_narrow_token_sees_its_version_start_bus_and_clients() -> None:
    metrics = made()
    metrics.observe(ClientConnected("sse"))
    metrics.observe(ClientLeft("sse", "closed by the client"))
    families = {family.name for family in text_string_to_metric_families(metrics.render(NARROW).decode())}
    assert families == {
        "tidegate_build_info",
        "tidegate_clients",
        "tidegate_bus_connected",
        "process_start_time_seconds",
    }
    everything = {family.name for family in text_string_to_metric_families(metrics.render(ALL).decode())}
    assert {"process_cpu_seconds", "tidegate_clients_left", "tidegate_polls"} < everything


def test_a_metric_of_which_nobody_decided_what_it_shows_is_hidden() -> None:
    metrics = made()
    metrics._counter("tidegate_new", "Nobody has decided", "type")("system.status").inc()
    metrics._counter("tidegate_decided", "Somebody has", "breaker", seen=by_breaker("breaker"))("disks").inc()
    metrics._counter("tidegate_decided_too", "Again", "breaker", seen=by_breaker("breaker"))("engine").inc()
    assert samples(metrics, "tidegate_new_total") == {("system.status",): 1}
    assert b"tidegate_new" not in metrics.render(NARROW)
    assert b'tidegate_decided_total{breaker="disks"}' in metrics.render(NARROW)
    assert b"engine" not in metrics.render(NARROW)


def test_what_is_counted_under_other_is_of_types_that_a_narrow_token_may_not_see() -> None:
    metrics = made()
    for n in range(INVENTED_TYPES + 1):
        metrics.observe(EventPublished(f"app.t{n}", 1))
    covering = Coverage(types=PatternSet(["other", "app.*"]), breakers=frozenset(), backends=frozenset())
    published = samples(metrics, "tidegate_events_published_total", covering)
    assert len(published) == INVENTED_TYPES
    assert ("other",) not in published


def test_two_gateways_in_one_process_count_apart() -> None:
    one, other = made(), made()
    one.observe(EventPublished("system.status", 1))
    assert samples(other, "tidegate_events_published_total") == {}


def test_what_is_not_known_is_ignored() -> None:
    class CoffeeBrewed(Measurement, frozen=True):
        cups: int

    def shown() -> list[bytes]:
        return [line for line in metrics.render(ALL).splitlines() if line.startswith(b"tidegate_")]

    metrics = made()
    before = shown()
    metrics.observe(CoffeeBrewed(3))
    assert shown() == before
