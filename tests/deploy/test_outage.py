"""A real Prometheus watches an outage: alerts fire and resolve, and its numbers are those of who took part in it."""

from collections import Counter
from datetime import datetime

import pytest
from deployed import needs_prometheus
from outage import AWAY, INTERVAL_S, Outage

BUSY = {"TidegateLoopLag"}
"""What may be true of a machine that runs many tests at once."""

pytestmark = [pytest.mark.real, needs_prometheus]


def test_alerts_fire_and_resolve(watched: Outage) -> None:
    assert watched.hung - BUSY == set(AWAY)
    assert watched.left - BUSY == set()
    assert watched.resolved == {*AWAY, "TidegateReloadFailed", "TidegateDown"}


def test_polls_are_the_calls_of_the_fault_proxy_and_the_refused_connects(watched: Outage) -> None:
    polls = Counter[str]()
    for sample in watched.prometheus.query("sum by (outcome) (tidegate_polls_total)"):
        polls[sample.labels["outcome"]] += int(sample.value)
    ended = Counter(call["how"] for call in watched.calls)
    refused = watched.clients[0].refused
    assert refused > 0
    assert ended["client_left"] > 0
    assert +polls == {"ok": ended["answered"], "RPC_TIMEOUT": ended["client_left"], "RPC_DISCONNECT": refused}


def test_deliveries_are_what_the_clients_have_counted(watched: Outage) -> None:
    """But for heartbeats, which go on while the numbers are compared."""
    told = Counter[tuple[str, str]]()
    for sample in watched.prometheus.query('sum by (type, kind) (tidegate_deliveries_total{type!="heartbeat"})'):
        told[sample.labels["type"], sample.labels["kind"]] += int(sample.value)
    counted = sum((client.counts for client in watched.clients), Counter[tuple[str, str]]())
    assert {kind for _, kind in counted} == {"live", "snapshot", "replay"}
    assert +told == counted


def test_stale_seconds_are_those_that_a_client_saw(watched: Outage) -> None:
    for name, (before, after) in watched.stale_s.items():
        seen, since = 0.0, None
        for turn in (turn for turn in watched.clients[0].turns if turn.type == name):
            at = datetime.fromisoformat(turn.timestamp).timestamp()
            if turn.is_stale:
                since = at
            elif since is not None:
                seen, since = seen + at - since, None
        assert seen > 10
        assert after - before == pytest.approx(seen, abs=INTERVAL_S)
