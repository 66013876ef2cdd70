"""What Prometheus reads: names, values, bounded labels, and only what a token covers."""

import shutil
import subprocess
from collections.abc import Iterator
from enum import Enum
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from tidegate.core.access.grant import EVERYTHING, Coverage
from tidegate.core.measurements import (
    BreakerMoved,
    BusConnected,
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
from tidegate.core.readings import DELAYS_S, Distribution, Reading
from tidegate.core.topics import BUILT_IN_TYPES, PatternSet
from tidegate.errors import ErrorCode, RefusalReason
from tidegate.outbound.metrics import FAMILIES, INVENTED_TYPES, ConfiguredNames, PrometheusMetrics
from tidegate.outbound.metrics.prometheus import PIECE

NAMES = ConfiguredNames(
    sources=(("system.status", "engine"), ("storage.update", "disks")),
    backends=("engine", "disks"),
    breakers=("engine/system.status", "disks"),
)

ALL = Coverage(types=EVERYTHING, breakers=frozenset(), backends=frozenset())

NARROW = Coverage(
    types=PatternSet(["system.*"]), breakers=frozenset({"engine/system.status"}), backends=frozenset({"engine"})
)

Samples = dict[tuple[str, ...], float]


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics(version="0.1.0", names=NAMES)


def text(metrics: PrometheusMetrics, coverage: Coverage = ALL, *, openmetrics: bool = False) -> str:
    return b"".join(metrics.render(coverage, openmetrics=openmetrics)).decode()


def samples(metrics: PrometheusMetrics, name: str, coverage: Coverage = ALL) -> Samples:
    """The values of one metric, by its label values in their order."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text(metrics, coverage))
        for sample in family.samples
        if sample.name == name
    }


def publish(metrics: PrometheusMetrics, *event_types: str) -> None:
    """Have an event of each type published, as a gateway counts that."""
    metrics.read_from(lambda: [Reading("tidegate_events_published_total", 1, (name,)) for name in event_types])


class TestMeasurements:
    def test_polls_how_they_end_how_long_they_take_and_how_late_they_are(self, metrics: PrometheusMetrics) -> None:
        metrics.observe(PollStarted(0.02))
        metrics.observe(PollEnded("system.status", "engine", None, 0.02))
        metrics.observe(PollEnded("system.status", "engine", ErrorCode.RPC_TIMEOUT, 2.0))
        metrics.observe(TicksMissed("system.status", 2))
        polls = samples(metrics, "tidegate_polls_total")
        assert polls["system.status", "engine", "ok"] == polls["system.status", "engine", "RPC_TIMEOUT"] == 1
        assert samples(metrics, "tidegate_poll_duration_seconds_sum") == {("engine",): 2.02, ("disks",): 0}
        assert samples(metrics, "tidegate_poll_start_lag_seconds_sum") == {(): 0.02}
        assert samples(metrics, "tidegate_ticks_missed_total") == {("system.status",): 2, ("storage.update",): 0}

    def test_moves_of_a_breaker(self, metrics: PrometheusMetrics) -> None:
        metrics.observe(BreakerMoved("disks", "open"))
        moves = samples(metrics, "tidegate_breaker_transitions_total")
        assert moves["disks", "open"] == 1
        assert sum(moves.values()) == 1

    def test_knocks_repetitions_and_hints_by_their_results(self, metrics: PrometheusMetrics) -> None:
        metrics.observe(KnockEnded("engine", "unreachable"))
        metrics.observe(RepetitionEnded("engine", "answered"))
        metrics.observe(HintTaken("engine", "for_some"))
        assert samples(metrics, "tidegate_knocks_total")["engine", "unreachable"] == 1
        assert samples(metrics, "tidegate_repetitions_total")["engine", "answered"] == 1
        assert samples(metrics, "tidegate_hints_total")["engine", "for_some"] == 1

    def test_outages_fall_into_buckets_from_half_a_second_to_an_hour(self, metrics: PrometheusMetrics) -> None:
        for elapsed_s in (0.4, 61.0, 7200.0):
            metrics.observe(OutageEnded("engine", elapsed_s))
        assert samples(metrics, "tidegate_outage_seconds_sum")["engine",] == 7261.4
        counts = samples(metrics, "tidegate_outage_seconds_bucket")
        assert [counts["engine", le] for le in ("0.5", "60.0", "120.0", "3600.0", "+Inf")] == [1, 1, 2, 2, 3]

    def test_clients_come_and_go(self, metrics: PrometheusMetrics) -> None:
        metrics.observe(ClientConnected("sse"))
        metrics.observe(ClientConnected("websocket"))
        assert samples(metrics, "tidegate_clients") == {("websocket",): 1, ("sse",): 1}
        assert samples(metrics, "tidegate_clients_connected_total") == {("websocket",): 1, ("sse",): 1}

    def test_a_refusal(self, metrics: PrometheusMetrics) -> None:
        metrics.observe(RequestRefused("sse", RefusalReason.BAD_TOKEN))
        refusals = samples(metrics, "tidegate_refusals_total")
        assert refusals["sse", "bad_token"] == 1
        assert sum(refusals.values()) == 1

    def test_the_bus_is_connected_or_not(self, metrics: PrometheusMetrics) -> None:
        seen = [samples(metrics, "tidegate_bus_connected")[()]]
        for connected in (True, False, True):
            metrics.observe(BusConnected(connected))
            seen.append(samples(metrics, "tidegate_bus_connected")[()])
        assert seen == [0, 1, 0, 1]

    def test_writes_of_the_store(self, metrics: PrometheusMetrics) -> None:
        for unwritten in (0, 7, 9, 0, 0):
            metrics.observe(StoreWritten(unwritten))
        assert samples(metrics, "tidegate_store_writes_total") == {("ok",): 3, ("error",): 2}

    def test_build_info(self, metrics: PrometheusMetrics) -> None:
        [(version, python, fan_out)] = samples(metrics, "tidegate_build_info")
        assert (version, fan_out) == ("0.1.0", "c")
        assert python.startswith("3.")
        other = PrometheusMetrics(version="0.1.0", compiled=False)
        assert [labels[-1] for labels in samples(other, "tidegate_build_info")] == ["python"]

    def test_what_is_not_known_is_ignored(self, metrics: PrometheusMetrics) -> None:
        class CoffeeBrewed(Measurement, frozen=True):
            cups: int

        metrics.observe(CoffeeBrewed(3))


class TestReadings:
    def test_they_are_read_at_each_scrape(self, metrics: PrometheusMetrics) -> None:
        values = iter([1, 0])
        metrics.read_from(lambda: [Reading("tidegate_source_stale", next(values), ("system.status",))])
        assert samples(metrics, "tidegate_source_stale") == {("system.status",): 1}
        assert samples(metrics, "tidegate_source_stale") == {("system.status",): 0}

    def test_of_a_counter_they_count_together_and_with_what_was_measured(self, metrics: PrometheusMetrics) -> None:
        name = "tidegate_ticks_missed_total"
        metrics.observe(TicksMissed("system.status", 2))
        for n in (3, 4):
            metrics.read_from(lambda n=n: [Reading(name, n, ("system.status",))])  # type: ignore[misc]
        assert [samples(metrics, name)["system.status",] for _ in range(2)] == [9, 9]

    def test_a_distribution(self, metrics: PrometheusMetrics) -> None:
        lags = Distribution(DELAYS_S)
        metrics.read_from(lambda: [Reading("tidegate_loop_lag_seconds", lags)])
        lags.note(0.2)
        assert samples(metrics, "tidegate_loop_lag_seconds_count") == {(): 1}

    def test_of_names_that_are_gone_nothing_is_shown(self, metrics: PrometheusMetrics) -> None:
        metrics.read_from(lambda: [Reading("tidegate_source_stale", 1, ("gone.type",))])
        assert samples(metrics, "tidegate_source_stale") == {}

    def test_the_process(self, metrics: PrometheusMetrics) -> None:
        assert samples(metrics, "process_resident_memory_bytes")[()] > 1_000_000
        assert samples(metrics, "process_cpu_seconds_total")[()] > 0


class TestNarrowTokens:
    def test_they_see_what_they_cover(self, metrics: PrometheusMetrics) -> None:
        publish(metrics, "invented.type")
        for family in FAMILIES:
            labels = {label.name for label in family.labels}
            suffix = "_count" if family.kind == "histogram" else ""
            seen = samples(metrics, family.name + suffix, NARROW)
            if "type" in labels and family.kind != "gauge":
                assert {values[0] for values in seen} == {"system.status"}, family.name
            elif "breaker" in labels and family.kind != "gauge":
                assert {values[0] for values in seen} == {"engine/system.status"}, family.name
            elif "backend" in labels:
                assert {values[0] for values in seen} == {"engine"}, family.name
            elif not family.shown and family.deciding is None:
                assert seen == {}, family.name
        for hidden in ("storage.update", "invented", "heartbeat", "disks"):
            assert hidden not in text(metrics, NARROW)
            assert hidden in text(metrics)

    def test_of_readings_too(self, metrics: PrometheusMetrics) -> None:
        metrics.read_from(lambda: [Reading("tidegate_source_stale", 1, (name,)) for name, _ in NAMES.sources])
        metrics.read_from(lambda: [Reading("tidegate_breaker_forced", 1, (name,)) for name in NAMES.breakers])
        assert samples(metrics, "tidegate_source_stale", NARROW) == {("system.status",): 1}
        assert samples(metrics, "tidegate_breaker_forced", NARROW) == {("engine/system.status",): 1}

    def test_they_see_what_is_for_everybody_and_nothing_else_of_the_gateway(self, metrics: PrometheusMetrics) -> None:
        shown = [family for family in FAMILIES if family.shown]
        metrics.read_from(lambda: [Reading(family.name, 1) for family in FAMILIES if not family.labels])
        nothing = Coverage(types=PatternSet(["no.such"]), breakers=frozenset(), backends=frozenset())
        seen = {family.name for family in text_string_to_metric_families(text(metrics, nothing))}
        assert seen == {family.name for family in shown}

    def test_what_is_counted_under_other_may_be_of_types_that_are_hidden(self, metrics: PrometheusMetrics) -> None:
        publish(metrics, *(f"app.t{n}" for n in range(INVENTED_TYPES + 1)))
        covering = Coverage(types=PatternSet(["other", "app.*"]), breakers=frozenset(), backends=frozenset())
        published = samples(metrics, "tidegate_events_published_total", covering)
        assert len(published) == INVENTED_TYPES
        assert ("other",) not in published


class TestReload:
    def test_series_of_what_is_gone_are_dropped_and_stay_so(self, metrics: PrometheusMetrics) -> None:
        publish(metrics, "storage.update")

        def late() -> None:
            metrics.observe(PollEnded("storage.update", "disks", None, 0.1))
            metrics.observe(BreakerMoved("disks", "open"))
            metrics.observe(KnockEnded("disks", "dropped"))
            metrics.observe(OutageEnded("disks", 4.0))
            metrics.observe(TicksMissed("storage.update", 1))

        late()
        metrics.follow(
            ConfiguredNames(sources=NAMES.sources[:1], backends=("engine",), breakers=("engine/system.status",))
        )
        for _ in range(2):
            shown = text(metrics)
            assert "storage.update" not in shown
            assert "disks" not in shown
            late()

    def test_series_of_what_is_new_begin_with_zero_at_once_and_others_go_on(self, metrics: PrometheusMetrics) -> None:
        metrics.observe(TicksMissed("system.status", 2))
        publish(metrics, "app.x")
        new = ConfiguredNames(sources=(*NAMES.sources, ("net.x", "net")), backends=(*NAMES.backends, "net"))
        metrics.follow(new)
        assert samples(metrics, "tidegate_ticks_missed_total") == {
            ("system.status",): 2,
            ("storage.update",): 0,
            ("net.x",): 0,
        }
        assert samples(metrics, "tidegate_poll_duration_seconds_count")["net",] == 0
        assert samples(metrics, "tidegate_events_published_total")["app.x",] == 1
        assert samples(metrics, "tidegate_breaker_transitions_total") == {}

    def test_what_comes_back_begins_anew(self, metrics: PrometheusMetrics) -> None:
        metrics.observe(TicksMissed("storage.update", 2))
        metrics.follow(ConfiguredNames(sources=NAMES.sources[:1], backends=("engine",)))
        metrics.follow(NAMES)
        assert samples(metrics, "tidegate_ticks_missed_total")["storage.update",] == 0


class TestText:
    @pytest.mark.parametrize("coverage", [ALL, NARROW])
    def test_the_librarys_parsers_read_both_formats_and_find_the_same(
        self, metrics: PrometheusMetrics, coverage: Coverage
    ) -> None:
        metrics.observe(PollEnded("system.status", "engine", None, 0.3))
        publish(metrics, 'odd"\\\n')
        plain = [*text_string_to_metric_families(text(metrics, coverage))]
        open_text = text(metrics, coverage, openmetrics=True)
        opened: list[Metric] = [*openmetrics_parser.text_string_to_metric_families(open_text)]  # type: ignore[no-untyped-call]
        assert open_text.endswith("\n# EOF\n")
        assert "_created" not in open_text

        def named(families: list[Metric]) -> set[tuple[object, ...]]:
            samples = [sample for family in families for sample in family.samples]
            return {(sample.name, *sorted(sample.labels.items())) for sample in samples}

        assert named(plain) == named(opened)
        assert {family.name: family.unit for family in opened}.items() <= {
            family.base: family.unit for family in FAMILIES
        }.items()

    @pytest.mark.parametrize("openmetrics", [False, True])
    def test_promtool_finds_nothing_wrong(self, metrics: PrometheusMetrics, *, openmetrics: bool) -> None:
        promtool = shutil.which("promtool")
        if promtool is None:
            pytest.skip("promtool is not installed")
        everything = (reading for family in FAMILIES for reading in _one_reading(family.name))
        metrics.read_from(lambda: everything)
        if openmetrics:  # promtool reads Prometheus' text only: of OpenMetrics it may read all but the unit
            shown = "".join(
                line
                for line in text(metrics, openmetrics=True).splitlines(True)
                if not line.startswith(("# UNIT", "# EOF"))
            )
        else:
            shown = text(metrics)
        found = subprocess.run(
            [promtool, "check", "metrics"], input=shown, capture_output=True, text=True, check=False, timeout=30
        )
        complaints = [line for line in found.stderr.splitlines() if not line.startswith("process_")]
        assert (complaints if not openmetrics else [c for c in complaints if "error" in c]) == []

    def test_it_is_written_in_pieces_between_which_anything_may_happen(self) -> None:
        sources = tuple((f"source.n{n}", "engine") for n in range(200))
        metrics = PrometheusMetrics(version="1", names=ConfiguredNames(sources=sources, backends=("engine",)))
        metrics.read_from(lambda: [Reading("tidegate_source_stale", 1, (name,)) for name, _ in sources])
        pieces = []
        for piece in metrics.render(ALL):
            pieces.append(piece)
            metrics.observe(TicksMissed(sources[-1][0], 1))
            metrics.follow(ConfiguredNames(sources=sources[len(pieces) :], backends=("engine",)))
        assert len(pieces) > 5
        # A histogram has a line for each bucket in one go, so a piece may have a few more lines than series.
        assert max(piece.count(b"\n") for piece in pieces) < 2 * PIECE
        assert list(text_string_to_metric_families(b"".join(pieces).decode()))

    def test_200_sources_of_10_backends_have_about_4600_lines(self) -> None:
        sources = tuple((f"area{n % 10}.source{n}", f"backend{n % 10}") for n in range(200))
        backends = tuple(f"backend{n}" for n in range(10))
        metrics = PrometheusMetrics(
            version="1", names=ConfiguredNames(sources=sources, backends=backends, breakers=backends)
        )
        metrics.read_from(lambda: _all_readings(sources, backends))
        lines = text(metrics).splitlines()
        assert sum(not line.startswith("#") for line in lines) <= 4700


def _one_reading(name: str) -> Iterator[Reading]:
    family = next(family for family in FAMILIES if family.name == name)
    if family.kind == "gauge" and not any(label.names == "build" for label in family.labels):
        values = {"source": "system.status", "event": "system.status", "backend": "engine", "breaker": "disks"}
        yield Reading(name, 1, tuple(values.get(label.names or "", *label.values[:1]) for label in family.labels))


def _all_readings(sources: tuple[tuple[str, str], ...], breakers: tuple[str, ...]) -> Iterator[Reading]:
    names = {"source": [name for name, _ in sources], "breaker": list(breakers)}
    for family in FAMILIES:
        if family.kind != "gauge" or family.name == "tidegate_build_info":
            continue
        if not family.labels:
            yield Reading(family.name, 1)
        for first in (names.get(label.names or "", label.values) for label in family.labels[:1]):
            for value in first:
                for rest in family.labels[1].values if len(family.labels) > 1 else ("",):
                    yield Reading(family.name, 1, (value, rest) if rest else (value,))


HOSTILE = st.text(max_size=300)


@given(st.lists(HOSTILE, min_size=1, max_size=8))
def test_no_label_value_comes_from_outside(texts: list[str]) -> None:
    metrics = PrometheusMetrics(version="0.1.0", names=NAMES)
    kinds: list[type[Measurement]] = [*Measurement.__subclasses__()]
    for hostile in texts:
        for kind in kinds:
            if kind.__module__ == Measurement.__module__:
                metrics.observe(_filled(kind, hostile))
        for family in FAMILIES:
            if family.kind != "histogram":
                reading = Reading(family.name, 1, (hostile,) * len(family.labels))
                if not any(label.names == "build" for label in family.labels):
                    metrics.read_from(lambda reading=reading: [reading])  # type: ignore[misc]
    configured = {*dict(NAMES.sources), *NAMES.backends, *NAMES.breakers, *BUILT_IN_TYPES}
    enumerated = {value for family in FAMILIES for label in family.labels for value in label.values}
    for shown in text_string_to_metric_families(text(metrics)):
        for sample in shown.samples:
            for name, value in sample.labels.items():
                if name in {"le", "version", "python"}:
                    continue
                invented = name == "type" and value in texts
                assert value in configured | enumerated | {"other"} or invented, (sample.name, name)


def _filled(kind: type[Measurement], hostile: str) -> Measurement:
    """A measurement with `hostile` in each field that is a text."""
    fields: dict[str, object] = {}
    for name, hint in get_type_hints(kind).items():
        if hint is str or (get_args(hint) and isinstance(get_args(hint)[0], str)):
            fields[name] = hostile
        elif isinstance(hint, type) and issubclass(hint, Enum):
            fields[name] = next(iter(hint))
        elif hint in (int, float, bool):
            fields[name] = 1
        else:
            fields[name] = None
    return kind(**fields)


def test_two_gateways_in_one_process_count_apart(metrics: PrometheusMetrics) -> None:
    other = PrometheusMetrics(version="0.1.0", names=NAMES)
    metrics.observe(TicksMissed("system.status", 1))
    assert samples(other, "tidegate_ticks_missed_total")["system.status",] == 0


def test_every_series_of_names_and_enumerations_is_there_from_the_start(metrics: PrometheusMetrics) -> None:
    shown = text(metrics)
    for family in FAMILIES:
        if family.kind != "gauge" and not any(label.names == "build" for label in family.labels):
            assert f"\n{family.name}" in shown, family.name
    refusals = samples(metrics, "tidegate_refusals_total")
    assert set(refusals) == {(one, why.value) for one in ("websocket", "sse", "http") for why in RefusalReason}
    assert set(refusals.values()) == {0}
    assert samples(metrics, "tidegate_store_waiting_values") == {(): 0}
    assert samples(metrics, "tidegate_clients") == {("websocket",): 0, ("sse",): 0}


def test_leaving_for_a_reason_that_nobody_knows_is_other(metrics: PrometheusMetrics) -> None:
    metrics.observe(ClientLeft("sse", "because"))  # type: ignore[arg-type, unused-ignore]
    assert samples(metrics, "tidegate_clients_left_total")["sse", "other"] == 1
