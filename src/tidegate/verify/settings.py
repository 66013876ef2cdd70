"""What a gateway of our own is configured with, as values and as text. Must not know how it is started."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway of our own is configured with. No public interface shows all of this.

    `methods` maps each event type to the backend's method, and `intervals_s` to its interval.
    """

    failure_threshold: int
    open_s: float
    open_max_s: float
    timeout_s: float
    connections: int
    rpc_error_interval_s: float
    response_bytes: int
    event_bytes: int
    methods: Mapping[str, str]
    intervals_s: Mapping[str, float]


METHODS: Final = {
    "system.status": "system.status",
    "storage.update": "storage.status",
    "engine.methods": "rpc.discover",
}

LOCAL: Final = Settings(
    failure_threshold=5,
    open_s=0.5,
    open_max_s=4.0,
    timeout_s=1.5,
    connections=16,
    rpc_error_interval_s=0.5,
    response_bytes=1024 * 1024,
    event_bytes=256 * 1024,
    methods=METHODS,
    intervals_s=dict.fromkeys(METHODS, 0.3),
)
"""Short times, for scenarios that wait for intervals, timeouts and open periods."""

SLOW: Final = tuple(f"slow.source{number}" for number in range(30))

MIXED: Final = msgspec.structs.replace(
    LOCAL,
    open_s=1.1,
    timeout_s=0.8,
    connections=64,
    methods={**METHODS, **dict.fromkeys(SLOW, "system.status")},
    intervals_s={**dict.fromkeys(METHODS, 1.0), **dict.fromkeys(SLOW, 60.0)},
)
"""Sources that are polled every second, and many more once a minute, whose own polls are of no help after an outage.

All can be asked at once, so that every one of them notices an outage at which all are polled.
"""

HEARTBEAT_S: Final = 0.5


def configuration(proxy_url: str, settings: Settings, *, state_dir: Path) -> str:
    """Return the configuration of a gateway that polls the engine at `proxy_url`."""
    sources = "".join(
        f'[sources."{name}"]\nbackend = "engine"\nmethod = "{method}"\ninterval_s = {settings.intervals_s[name]}\n'
        for name, method in settings.methods.items()
    )
    return f"""\
[server]
port = 0
state_dir = {msgspec.json.encode(str(state_dir)).decode()}
heartbeat_interval_s = {HEARTBEAT_S}
drain_s = 0.0

[limits]
event_bytes = {settings.event_bytes}
rpc_error_interval_s = {settings.rpc_error_interval_s}

[backends.engine]
url = "{proxy_url}/rpc"
timeout_s = {settings.timeout_s}
connections = {settings.connections}
response_bytes = {settings.response_bytes}

[backends.engine.breaker]
failure_threshold = {settings.failure_threshold}
open_s = {settings.open_s}
open_max_s = {settings.open_max_s}

{sources}"""
