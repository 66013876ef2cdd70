"""The contents of a plan: the options of each part of a gateway.

The options of a part are usually defined next to the part. For a part that takes its options as separate arguments,
this module has a struct with one field for each argument. Everything is immutable data that `==` compares.
"""

from pathlib import Path

import msgspec

from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.inbound.address import Address
from tidegate.inbound.http_api import ApiOptions
from tidegate.inbound.server import TlsFiles
from tidegate.inbound.websocket import WebSocketOptions
from tidegate.outbound.auth.opening import Authentication
from tidegate.outbound.backends.opening import BackendEndpoint
from tidegate.outbound.metrics import ConfiguredNames
from tidegate.runtime.gateway_options import GatewayOptions


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `inbound.server.serve`, which explains them."""

    handshake_s: float
    body_bytes: int
    slow_grace_s: float


class MetricsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `outbound.metrics.PrometheusMetrics`, which explains them."""

    version: str
    names: ConfiguredNames
    compiled: bool


class AccessRules(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `runtime.access.Gate`, which explains them."""

    bound_host: str
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]


class PlannedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """One backend: how to connect to it, and how to poll it and its sources."""

    name: str
    endpoint: BackendEndpoint
    polling: BackendPlan


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole gateway. `store` is the directory of saved values, None if they are not kept on disk."""

    address: Address
    tls: TlsFiles | None
    server: ServerOptions
    access: AccessRules
    authentication: Authentication
    gateway: GatewayOptions
    api: ApiOptions
    websocket: WebSocketOptions
    stream_soft_bytes: int
    backends: tuple[PlannedBackend, ...]
    store: Path | None
    metrics: MetricsOptions
