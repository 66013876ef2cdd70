"""The options of a gateway: limits and intervals. The plan makes them from the configuration."""

import msgspec

from tidegate.core.delivery.session import SessionLimits
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.rate import Rate


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one `tidegate.runtime.gateway.Gateway`.

    `source_types` are the polled event types, which publishers may not publish. `retained_keys` and `retained_bytes`
    (of data) limit the retained values of all publishers together. `publishes` limits the events of each publisher.

    `publish_timeout_s` is how long a publisher waits for the bus. A poller that has waited longer for the bus starts no
    new polls. `drain_s` is over how many seconds the clients are closed, one by one, when the epoch changes,
    and at most at the end; `drain_min_s` is how long the drain at the end takes at least.
    """

    server: str
    source_types: frozenset[str]
    default_types: tuple[str, ...]
    heartbeat_interval_s: float
    history_events: int
    history_bytes: int
    event_bytes: int
    retained_keys: int = 100_000
    retained_bytes: int = 268_435_456
    publishes: Rate = Rate(per_s=2000.0, burst=5000)
    max_clients: int
    connects: Rate = Rate(per_s=1000.0, burst=5000)
    publish_timeout_s: float = 5.0
    drain_s: float = 5.0
    drain_min_s: float = 0.0
    session_limits: SessionLimits
    send_limits: SendLimits
