"""The metrics of the process itself: the loop, the store, the configuration."""

from tidegate.core.log_events import LimitedEvent
from tidegate.core.readings import DELAYS_S
from tidegate.outbound.metrics.family import Family, Label, counter, gauge, histogram
from tidegate.runtime.keeping import PARTS

RATE_LIMITED = tuple(event.value for event in LimitedEvent)
"""The log lines whose number is limited."""

RUNNING: tuple[Family, ...] = (
    gauge(
        "tidegate_build_info",
        "What runs? Always 1; fan_out says whether the fast path in C is used",
        Label("version", names="build"),
        Label("python", names="build"),
        Label("fan_out", ("c", "python")),
        shown=True,
    ),
    gauge("tidegate_start_timestamp_seconds", "When did it start? Does it restart again and again?", shown=True),
    histogram(
        "tidegate_loop_lag_seconds",
        "How late is the event loop with a timer of every 100 ms? Is the process stopped or starved?",
        buckets=DELAYS_S,
    ),
    counter(
        "tidegate_parts_restarted_total",
        "Which part failed and was started again? The log has the exception",
        Label("part", PARTS),
    ),
    counter(
        "tidegate_clock_steps_total",
        "How often was the wall clock set, by more than a second?",
        Label("direction", ("forward", "backward")),
    ),
    counter(
        "tidegate_log_lines_suppressed_total",
        "How many log lines were left out because there were too many?",
        Label("event", RATE_LIMITED),
    ),
    counter("tidegate_store_writes_total", "Do writes of values to disk succeed?", Label("outcome", ("ok", "error"))),
    gauge("tidegate_store_waiting_values", "How many values are not on disk yet? Would a restart lose them?"),
    gauge("tidegate_store_last_success_timestamp_seconds", "When was a value written last? At first: the start"),
    gauge("tidegate_store_bytes", "How large are the files with the values?"),
    gauge(
        "tidegate_config_last_reload_successful",
        "Could the configuration be used when it was read last? Then 1, else 0",
        shown=True,
    ),
    gauge(
        "tidegate_config_last_reload_success_timestamp_seconds",
        "When was the configuration read last that could be used?",
        shown=True,
    ),
    counter(
        "tidegate_config_reloads_total",
        "How did reloads end?",
        Label("outcome", ("changed", "unchanged", "refused", "error")),
    ),
    gauge("tidegate_certificate_expiry_timestamp_seconds", "When does our certificate expire?"),
    gauge("tidegate_bus_connected", "Is the bus connected? Then 1, else 0"),
    counter("process_cpu_seconds_total", "How much processor time did the process use?"),
    gauge("process_virtual_memory_bytes", "How much virtual memory has the process?"),
    gauge("process_resident_memory_bytes", "How much memory does the process use?"),
    gauge("process_start_time_seconds", "When did the process start, by the system?", shown=True),
    gauge("process_open_fds", "How many file descriptors are open?"),
    gauge("process_max_fds", "How many file descriptors may be open?"),
)
