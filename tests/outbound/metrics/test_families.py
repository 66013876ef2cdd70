"""The table of metrics: names, units and labels keep Prometheus' conventions, and what is private stays so."""

import re
from typing import get_args, get_type_hints

from tidegate.core.measurements import HintTaken, KnockEnded, RepetitionEnded
from tidegate.errors import ErrorCode
from tidegate.outbound.metrics import FAMILIES

BY_NAME = {family.name: family for family in FAMILIES}


def test_each_name_stands_there_once_and_says_what_it_counts() -> None:
    assert len(BY_NAME) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"(tidegate|process)(_[a-z]+)+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert bool(family.buckets) == (family.kind == "histogram"), family.name
        if family.kind == "histogram":
            assert family.unit == "seconds"
            assert list(family.buckets) == sorted(set(family.buckets))


def test_the_questions_need_no_escape_in_either_format() -> None:
    assert not [family.name for family in FAMILIES if set(family.question) & set('\\"\n|')]


def test_labels_mean_the_same_everywhere_and_source_is_none() -> None:
    names = {label.name for family in FAMILIES for label in family.labels}
    assert "source" not in names
    assert "le" not in names
    for family in FAMILIES:
        for label in family.labels:
            by_name = label.name in {"type", "backend", "breaker", "version", "python", "route"}
            assert by_name == (label.names is not None)
            assert bool(label.values) != (label.names is not None)


def test_of_what_no_label_decides_everybody_sees_only_what_the_contract_names() -> None:
    assert {family.name for family in FAMILIES if family.shown} == {
        "tidegate_build_info",
        "tidegate_start_timestamp_seconds",
        "process_start_time_seconds",
        "tidegate_clients",
        "tidegate_clients_limit",
        "tidegate_history_limit_events",
        "tidegate_history_limit_bytes",
        "tidegate_config_last_reload_successful",
        "tidegate_config_last_reload_success_timestamp_seconds",
    }
    assert not [family.name for family in FAMILIES if family.shown and family.deciding is not None]


def test_results_are_those_that_the_measurements_have() -> None:
    for kind, name in {KnockEnded: "knocks", RepetitionEnded: "repetitions", HintTaken: "hints"}.items():
        [_, label] = BY_NAME[f"tidegate_{name}_total"].labels
        assert label.values == get_args(get_type_hints(kind)["result"])


def test_a_poll_ends_well_or_with_one_of_six_errors() -> None:
    outcomes = BY_NAME["tidegate_polls_total"].labels[2].values
    assert len(outcomes) == 7
    assert set(outcomes) - {"ok"} == {code.value for code in ErrorCode if code.name.startswith("RPC_")}


def test_a_threshold_of_a_quarter_second_is_a_bound() -> None:
    for name in (
        "tidegate_loop_lag_seconds",
        "tidegate_data_age_at_delivery_seconds",
        "tidegate_poll_duration_seconds",
    ):
        assert 0.25 in BY_NAME[name].buckets
