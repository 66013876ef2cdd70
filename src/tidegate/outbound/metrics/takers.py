"""What each measurement is counted as."""

from collections.abc import Callable, Mapping
from typing import Any

from tidegate.core.measurements import (
    BreakerMoved,
    BusConnected,
    ClientConnected,
    ClientLeft,
    ClockStepped,
    ConfigReloaded,
    HintTaken,
    KnockEnded,
    LogLineSuppressed,
    Measurement,
    OutageEnded,
    PartRestarted,
    PollEnded,
    PollStarted,
    RepetitionEnded,
    RequestRefused,
    StoreWritten,
    TicksMissed,
)
from tidegate.outbound.metrics.counts import Counts

Taker = Callable[[Counts, Any], None]


def _poll_started(counts: Counts, measured: PollStarted) -> None:
    counts.note("tidegate_poll_start_lag_seconds", measured.late_s)


def _poll_ended(counts: Counts, measured: PollEnded) -> None:
    outcome = "ok" if measured.code is None else measured.code.value
    counts.add("tidegate_polls_total", 1, measured.type, measured.backend, outcome)
    counts.note("tidegate_poll_duration_seconds", measured.elapsed_s, measured.backend)


def _ticks_missed(counts: Counts, measured: TicksMissed) -> None:
    counts.add("tidegate_ticks_missed_total", measured.count, measured.type)


def _breaker_moved(counts: Counts, measured: BreakerMoved) -> None:
    counts.add("tidegate_breaker_transitions_total", 1, measured.breaker, measured.state)


def _knock_ended(counts: Counts, measured: KnockEnded) -> None:
    counts.add("tidegate_knocks_total", 1, measured.backend, measured.result)


def _repetition_ended(counts: Counts, measured: RepetitionEnded) -> None:
    counts.add("tidegate_repetitions_total", 1, measured.backend, measured.result)


def _hint_taken(counts: Counts, measured: HintTaken) -> None:
    counts.add("tidegate_hints_total", 1, measured.backend, measured.result)


def _outage_ended(counts: Counts, measured: OutageEnded) -> None:
    counts.note("tidegate_outage_seconds", measured.elapsed_s, measured.backend)


def _client_connected(counts: Counts, measured: ClientConnected) -> None:
    counts.add("tidegate_clients_connected_total", 1, measured.transport)
    counts.add("tidegate_clients", 1, measured.transport)


def _client_left(counts: Counts, measured: ClientLeft) -> None:
    counts.add("tidegate_clients_left_total", 1, measured.transport, measured.reason)
    counts.add("tidegate_clients", -1, measured.transport)


def _config_reloaded(counts: Counts, measured: ConfigReloaded) -> None:
    counts.add("tidegate_config_reloads_total", 1, measured.outcome)


def _request_refused(counts: Counts, measured: RequestRefused) -> None:
    counts.add("tidegate_refusals_total", 1, measured.transport, measured.reason.value)


def _bus_connected(counts: Counts, measured: BusConnected) -> None:
    counts.set("tidegate_bus_connected", int(measured.connected))


def _log_line_suppressed(counts: Counts, measured: LogLineSuppressed) -> None:
    counts.add("tidegate_log_lines_suppressed_total", 1, measured.event.value)


def _part_restarted(counts: Counts, measured: PartRestarted) -> None:
    counts.add("tidegate_parts_restarted_total", 1, measured.part)


def _clock_stepped(counts: Counts, measured: ClockStepped) -> None:
    counts.add("tidegate_clock_steps_total", 1, measured.direction)


def _store_written(counts: Counts, measured: StoreWritten) -> None:
    counts.add("tidegate_store_writes_total", 1, "error" if measured.unwritten else "ok")


TAKERS: Mapping[type[Measurement], Taker] = {
    BreakerMoved: _breaker_moved,
    BusConnected: _bus_connected,
    ClientConnected: _client_connected,
    ClientLeft: _client_left,
    ClockStepped: _clock_stepped,
    ConfigReloaded: _config_reloaded,
    HintTaken: _hint_taken,
    KnockEnded: _knock_ended,
    LogLineSuppressed: _log_line_suppressed,
    OutageEnded: _outage_ended,
    PartRestarted: _part_restarted,
    PollEnded: _poll_ended,
    PollStarted: _poll_started,
    RepetitionEnded: _repetition_ended,
    RequestRefused: _request_refused,
    StoreWritten: _store_written,
    TicksMissed: _ticks_missed,
}
