"""What the metrics read of a gateway at each scrape: its traffic, its history, and what waits for its clients."""

from collections.abc import Iterator

from tidegate.core.access.series import OTHER
from tidegate.core.delivery.framing import EVENT_STREAM, WEBSOCKET
from tidegate.core.delivery.history import History
from tidegate.core.delivery.retained import Retained
from tidegate.core.delivery.traffic import Traffic, TypeTraffic
from tidegate.core.readings import Reading
from tidegate.runtime.clients import ClientRegistry
from tidegate.runtime.gateway_options import GatewayOptions


def traffic_readings(traffic: Traffic) -> Iterator[Reading]:
    """Yield what was published and delivered."""
    for event_type, counts in list(traffic.by_type.items()):
        yield from _of_type(event_type, counts)
    if traffic.others.published or traffic.others.skipped:  # a gap names only some of the types
        yield from _of_type(OTHER, traffic.others)
    for framing, transport in ((WEBSOCKET, "websocket"), (EVENT_STREAM, "sse")):
        yield Reading("tidegate_delivered_bytes_total", traffic.sent_bytes[framing], (transport,))
    yield Reading("tidegate_data_age_at_delivery_seconds", traffic.ages)
    yield Reading("tidegate_fan_out_seconds", traffic.fan_out)
    for outcome, count in traffic.resumes.items():
        yield Reading("tidegate_resumes_total", count, (outcome,))


def kept_readings(history: History, retained: Retained, options: GatewayOptions) -> Iterator[Reading]:
    """Yield what is kept for clients, and how much may be."""
    yield Reading("tidegate_history_events", len(history))
    yield Reading("tidegate_history_bytes", history.bytes)
    yield Reading("tidegate_history_limit_events", options.history_events)
    yield Reading("tidegate_history_limit_bytes", options.history_bytes)
    if (oldest := history.oldest) is not None:
        yield Reading("tidegate_history_oldest_timestamp_seconds", oldest.timestamp)
    yield Reading("tidegate_retained_values", len(retained))


def client_readings(clients: ClientRegistry, options: GatewayOptions) -> Iterator[Reading]:
    """Yield what waits for the connected clients."""
    yield Reading("tidegate_clients_limit", options.max_clients)
    subscribers = [connection.subscriber for connection in clients.connections]
    yield Reading("tidegate_slow_clients", sum([subscriber.paused for subscriber in subscribers]))
    yield Reading("tidegate_queued_bytes", sum([subscriber.waiting_bytes for subscriber in subscribers]))


def _of_type(event_type: str, counts: TypeTraffic) -> Iterator[Reading]:
    labels = (event_type,)
    yield Reading("tidegate_events_published_total", counts.published, labels)
    yield Reading("tidegate_published_bytes_total", counts.published_bytes, labels)
    yield Reading("tidegate_deliveries_total", counts.live, (event_type, "live"))
    yield Reading("tidegate_deliveries_total", counts.snapshots, (event_type, "snapshot"))
    yield Reading("tidegate_deliveries_total", counts.replayed, (event_type, "replay"))
    yield Reading("tidegate_events_skipped_total", counts.skipped, labels)
    yield Reading("tidegate_events_conflated_total", counts.conflated, labels)
