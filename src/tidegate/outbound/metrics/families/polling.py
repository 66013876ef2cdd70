"""The metrics of backends, breakers and sources."""

from tidegate.core.polling.breaker_values import State
from tidegate.core.readings import DELAYS_S
from tidegate.errors import ErrorCode
from tidegate.outbound.metrics.family import BACKEND, BREAKER, SOURCE, Family, Label, counter, gauge, histogram

POLLS_S = (*DELAYS_S, 25.0, 60.0)
"""Upper bounds of the buckets for the duration of a poll, in seconds."""

OUTAGES_S = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""From one lost packet to a reboot. A longer outage is a matter for people, who look at the clock."""

OUTCOMES = ("ok", *(code.value for code in ErrorCode if code.value.startswith("RPC_")))

STATE = Label("state", tuple(state.value for state in State))

POLLING: tuple[Family, ...] = (
    counter(
        "tidegate_polls_total",
        "How do polls end: ok, or with which error? Is it the backend?",
        SOURCE,
        BACKEND,
        Label("outcome", OUTCOMES),
    ),
    histogram(
        "tidegate_poll_duration_seconds",
        "How long do polls take? Is the backend slow, or dead?",
        BACKEND,
        buckets=POLLS_S,
    ),
    histogram(
        "tidegate_poll_start_lag_seconds",
        "How long after its tick is a poll sent? Do we poll when it is due?",
        buckets=DELAYS_S,
    ),
    counter(
        "tidegate_ticks_missed_total",
        "How many polls were not made in time? Not those that an open breaker refuses",
        SOURCE,
    ),
    counter(
        "tidegate_late_results_total",
        "How many calls ended after their breaker had moved on, or after a probe's deadline, and judged nothing?",
        BACKEND,
    ),
    gauge(
        "tidegate_breaker_state",
        "In which state is it? 1 for that one, else 0. Alert on closed being 0, since each probe is half_open",
        BREAKER,
        STATE,
    ),
    counter(
        "tidegate_breaker_transitions_total",
        "How often did the breaker move to which state? Does it flap? The start is no move",
        BREAKER,
        STATE,
    ),
    counter(
        "tidegate_breaker_open_seconds_total",
        "How long was the breaker open? Half-open is not counted",
        BREAKER,
    ),
    gauge(
        "tidegate_breaker_forced",
        "Does an operator hold the breaker open or closed, and perhaps has forgotten it? Then 1, else 0",
        BREAKER,
    ),
    gauge("tidegate_source_stale", "Which sources are stale now? Then 1, else 0", SOURCE),
    counter(
        "tidegate_source_stale_seconds_total",
        "How long was the source stale, for whatever reason, from the start on? Its rate is the share of time",
        SOURCE,
    ),
    gauge(
        "tidegate_source_as_of_timestamp_seconds",
        "How old is what clients see: when was it asked for? Absent without a value",
        SOURCE,
    ),
    gauge(
        "tidegate_source_fresh_until_timestamp_seconds",
        "When will the value become stale by its age? If it is stale: since when is it?",
        SOURCE,
    ),
    counter(
        "tidegate_knocks_total",
        "How do attempts to connect end while a breaker is open?",
        BACKEND,
        Label("result", ("reachable", "unreachable", "dropped")),
    ),
    counter(
        "tidegate_repetitions_total",
        "How do failed polls end that are repeated before their next tick?",
        BACKEND,
        Label("result", ("answered", "failed", "no_room")),
    ),
    counter(
        "tidegate_hints_total",
        "What did the backend say of changes, and for whom?",
        BACKEND,
        Label("result", ("for_all", "for_some", "for_none", "too_many", "failed")),
    ),
    histogram(
        "tidegate_outage_seconds",
        "How long did an outage last, from the first failure until all sources were fresh again?",
        BACKEND,
        buckets=OUTAGES_S,
    ),
)
