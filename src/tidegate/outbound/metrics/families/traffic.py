"""The metrics of events, clients and requests."""

from tidegate.core.readings import AGES_S, DELAYS_S
from tidegate.errors import LeaveReason, RefusalReason
from tidegate.outbound.metrics.family import EVENT, Family, Label, counter, gauge, histogram

STREAM = Label("transport", ("websocket", "sse"))
TRANSPORT = Label("transport", ("websocket", "sse", "http"))

TRAFFIC: tuple[Family, ...] = (
    counter("tidegate_events_published_total", "How many events were published? Who is loud?", EVENT),
    counter("tidegate_published_bytes_total", "How much was published, each event counted once?", EVENT),
    counter(
        "tidegate_deliveries_total",
        "How many events were given to clients, each counted for each client?",
        EVENT,
        Label("kind", ("live", "snapshot", "replay")),
    ),
    counter("tidegate_delivered_bytes_total", "How much was sent to clients?", STREAM),
    histogram(
        "tidegate_data_age_at_delivery_seconds",
        "How old is fresh data when clients get it, from asking for it to publishing it?",
        buckets=AGES_S,
    ),
    histogram("tidegate_fan_out_seconds", "How long does it take to write to all idle sockets?", buckets=DELAYS_S),
    counter("tidegate_events_skipped_total", "Which events did slow clients lose?", EVENT),
    counter("tidegate_events_conflated_total", "Of which events did slow clients get only the newest?", EVENT),
    gauge("tidegate_clients", "How many clients are connected?", STREAM, shown=True),
    gauge("tidegate_clients_limit", "How many clients may be connected?", shown=True),
    counter("tidegate_clients_connected_total", "How many clients came?", STREAM),
    counter(
        "tidegate_clients_left_total",
        "Why do clients leave?",
        STREAM,
        Label("reason", tuple(reason.value for reason in LeaveReason)),
    ),
    counter(
        "tidegate_refusals_total",
        "Who is turned away, and whose fault is it?",
        TRANSPORT,
        Label("reason", tuple(reason.value for reason in RefusalReason)),
    ),
    counter(
        "tidegate_resumes_total",
        "Did clients that came back get everything? Is the history long enough?",
        Label("outcome", ("whole", "history_truncated", "epoch_changed")),
    ),
    gauge("tidegate_slow_clients", "How many clients are above the soft limit now?"),
    gauge("tidegate_queued_bytes", "How much waits to be sent to clients?"),
    gauge("tidegate_history_events", "How many events are kept for clients that come back?"),
    gauge("tidegate_history_bytes", "How much memory do they take?"),
    gauge("tidegate_history_limit_events", "How many events may be kept?", shown=True),
    gauge("tidegate_history_limit_bytes", "How much memory may they take?", shown=True),
    gauge("tidegate_history_oldest_timestamp_seconds", "Since when are they kept: how long may a client be away?"),
    gauge("tidegate_retained_values", "How many newest values are kept? Do publishers add keys without end?"),
    counter(
        "tidegate_requests_total",
        "How is the API used, and how do requests end?",
        Label("route", names="build"),
        Label("class", ("1xx", "2xx", "3xx", "4xx", "5xx")),
    ),
)
