"""What a plan holds: for each part of a gateway, what it is told.

The options of a part lie beside the part. A part that takes its options one by one has a struct here, with a field
for each argument. Everything is immutable data that `==` compares.
"""

from pathlib import Path

import msgspec

from tidegate.core.backend_plan import BackendPlan
from tidegate.inbound.address import Address
from tidegate.inbound.http_api import ApiOptions
from tidegate.inbound.websocket import WebSocketOptions
from tidegate.outbound.auth.opening import Authentication
from tidegate.outbound.backends.opening import Reached
from tidegate.runtime.gateway_options import GatewayOptions


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate chain in PEM, and its private key."""

    tls_cert_file: Path
    tls_key_file: Path


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `inbound.server.serve` is told; see there."""

    handshake_s: float
    body_bytes: int
    slow_grace_s: float


class MetricsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `outbound.metrics.PrometheusMetrics` is told; see there."""

    version: str
    known_types: tuple[str, ...]


class AccessRules(msgspec.Struct, frozen=True, kw_only=True):
    """What `runtime.access.Gate` is told; see there."""

    bound_host: str
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]


class DrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """For how many seconds clients are let go: at the most, and at the least."""

    drain_s: float
    drain_min_s: float


class PlannedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """One backend: how it is reached, and how it and its sources are polled."""

    name: str
    reached: Reached
    polled: BackendPlan


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole gateway. `store` is the directory of the last good values, None where they are not kept."""

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
    drain: DrainOptions
