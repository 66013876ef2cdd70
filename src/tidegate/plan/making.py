"""Makes the plan from a configuration.

Most configuration keys reach a part by name: a field of the part's options takes the value of the key with the same
name (`_filled`). Only fields that are named differently, or computed, are written out here.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidegate import __version__
from tidegate.config import (
    AuthConfig,
    BackendConfig,
    BreakerConfig,
    Config,
    JwtConfig,
    LimitsConfig,
    SourceConfig,
    TokenConfig,
)
from tidegate.config.connection_rules import is_persistent
from tidegate.config.section import Section
from tidegate.core.access.grant import EVERYTHING, Grant, Role
from tidegate.core.delivery.session import SessionLimits
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.envelope import raw
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import ClassifyPolicy
from tidegate.core.polling.source_values import SourceSpec
from tidegate.core.rate import Rate
from tidegate.core.shaping import Shape
from tidegate.core.topics import PatternSet
from tidegate.inbound.address import Address
from tidegate.inbound.http_api import ApiOptions
from tidegate.inbound.multicast import IS_COMPILED
from tidegate.inbound.server import TlsFiles
from tidegate.inbound.websocket import WebSocketOptions
from tidegate.outbound.auth import JwtOptions, KnownToken, TokenFile
from tidegate.outbound.auth.opening import (
    Authentication,
    ListedTokens,
    OpenAccess,
    PublicKey,
    PublishedKeys,
    SharedSecret,
    SignedTokens,
)
from tidegate.outbound.backends import HttpOptions, RpcOptions, RpcSession
from tidegate.outbound.backends.opening import BackendEndpoint
from tidegate.outbound.backends.plugins.backend import PluginOptions
from tidegate.outbound.metrics import ConfiguredNames
from tidegate.plan.asking import call
from tidegate.plan.model import (
    AccessRules,
    MetricsOptions,
    Plan,
    PlannedBackend,
    ServerOptions,
)
from tidegate.plan.sessions import http_session
from tidegate.ports import Call
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.secret_place import SecretPlace

BUILT_IN_DEFAULTS = ("circuit_breaker.*", "source.freshness", "rpc_error", "notification", "heartbeat")
"""The built-in types among the default subscriptions, unless `server.default_types` names others."""

FRAMES_PER_S = 1000.0
FRAMES_BURST = 2000
FRAMES_PER_MESSAGE = 10
"""How many WebSocket frames a client may send, control frames and fragments included.

Ten frames for each message that its limits allow, but at least 1000 a second and 2000 at once. A well-behaved client
sends far fewer, and the gateway can read that many without being slowed down.
"""

IDLE_MARGIN_S = 5.0
IDLE_MAX_S = 120.0
"""An idle connection to a backend is kept for the longest interval of its sources plus the margin, up to the maximum.

So the next poll normally reuses the connection, but a source with a long interval does not keep one open for hours.
"""

OPEN_MAX_S = 15.0
OPEN_MAX_SHARE = 0.1
OPEN_MAX_LIMIT_S = 300.0
"""The longest open period of a breaker if `open_max_s` is absent, in seconds.

The first figure, or that share of the backend's shortest interval if it is more, up to the limit. So a backend that
does not recover is asked at most eight times a minute, and a slow source is not asked much more often than usual.
"""

T = TypeVar("T", bound=msgspec.Struct)


def plan(config: Config) -> Plan:
    """Make the plan of the gateway that `config` describes. Pure: equal configurations lead to equal plans."""
    server, limits, auth = config.server, config.limits, config.auth
    tables = (server, limits)
    backends = tuple(_backend(config, name) for name in config.backends)
    return Plan(
        address=_filled(Address, *tables),
        tls=None if server.tls_cert_file is None else _filled(TlsFiles, *tables),
        server=_filled(ServerOptions, *tables, body_bytes=limits.publish_bytes),
        access=_filled(
            AccessRules, *tables, bound_host=server.host, hosts=server.allowed_hosts, origins=server.allowed_origins
        ),
        authentication=_authentication(auth),
        gateway=_gateway(config),
        api=_filled(ApiOptions, *tables, version=__version__, body_s=limits.handshake_s, auth=auth.mode),
        websocket=_filled(WebSocketOptions, *tables, frames=_frames(limits)),
        stream_soft_bytes=limits.send_buffer_soft_bytes,
        backends=backends,
        store=Path(server.state_dir) if server.state_dir else None,
        metrics=MetricsOptions(version=__version__, names=_names(backends), compiled=IS_COMPILED),
    )


def _names(backends: Collection[PlannedBackend]) -> ConfiguredNames:
    sources = [(backend.name, source) for backend in backends for source in backend.polling.sources]
    return ConfiguredNames(
        sources=tuple((source.spec.type, name) for name, source in sources),
        backends=tuple(backend.name for backend in backends),
        breakers=tuple(dict.fromkeys(source.breaker for _, source in sources)),
    )


def _gateway(config: Config) -> GatewayOptions:
    server, limits = config.server, config.limits
    return _filled(
        GatewayOptions,
        server,
        limits,
        server=f"tidegate/{__version__}",
        source_types=frozenset(config.sources),
        default_types=server.default_types or (*config.sources, *BUILT_IN_DEFAULTS),
        publishes=Rate(limits.publishes_per_s, limits.publishes_burst),
        connects=Rate(limits.connects_per_s, limits.connects_burst),
        session_limits=_filled(SessionLimits, limits),
        send_limits=SendLimits(hard_bytes=limits.send_buffer_hard_bytes, grace_s=limits.slow_grace_s),
        **{f"history_{key}": value for key, value in msgspec.structs.asdict(config.history).items()},
    )


def _frames(limits: LimitsConfig) -> Rate:
    return Rate(
        max(FRAMES_PER_S, limits.messages_per_s * FRAMES_PER_MESSAGE),
        max(FRAMES_BURST, limits.messages_burst * FRAMES_PER_MESSAGE),
    )


def _authentication(auth: AuthConfig) -> Authentication:
    match auth.mode:
        case "none":
            return OpenAccess()
        case "token":
            return ListedTokens(tuple(_known_token(token, number) for number, token in enumerate(auth.tokens)))
        case "jwt":
            assert auth.jwt is not None, "the configuration's rules see to it"
            return SignedTokens(_keys(auth.jwt), _filled(JwtOptions, auth.jwt))


def _known_token(token: TokenConfig, number: int) -> KnownToken:
    grant = Grant(
        name=f"token {number}",
        roles=frozenset(map(Role, token.roles)),
        allowed=EVERYTHING if token.types is None else PatternSet(token.types),
    )
    if token.token_file is not None:
        return KnownToken(TokenFile(Path(token.token_file), f"auth.tokens[{number}].token_file"), grant)
    assert token.token is not None, "the configuration's rules see to it"
    return KnownToken(token.token, grant)


def _keys(jwt: JwtConfig) -> PublicKey | SharedSecret | PublishedKeys:
    if jwt.jwks_url is not None:
        return PublishedKeys(jwt.jwks_url, "auth.jwt.jwks_url")
    if jwt.secret_file is not None:
        return SharedSecret(Path(jwt.secret_file), "auth.jwt.secret_file")
    assert jwt.key_file is not None, "the configuration's rules see to it"
    return PublicKey(Path(jwt.key_file), "auth.jwt.key_file")


def _backend(config: Config, name: str) -> PlannedBackend:
    backend = config.backends[name]
    rules = backend.breaker
    sources = {event_type: source for event_type, source in config.sources.items() if source.backend == name}
    return PlannedBackend(
        name=name,
        endpoint=BackendEndpoint(
            name,
            backend.protocol,
            _transport(backend, sources.values()),
            version="2.0" if is_persistent(backend) else backend.jsonrpc,
            session=None if is_persistent(backend) else http_session(backend, sources.values()),
        ),
        polling=_filled(
            BackendPlan,
            backend,
            config.limits,
            name=name,
            breaker=_filled(
                BreakerRules,
                rules,
                open_max_s=_usual_open_max_s(rules, sources.values()) if rules.open_max_s is None else rules.open_max_s,
            ),
            policy=_filled(ClassifyPolicy, rules, backend, ignored_codes=frozenset(rules.ignored_codes)),
            sources=tuple(_source(each, event_type, backend) for event_type, each in sources.items()),
        ),
    )


def _secrets(backend: BackendConfig) -> dict[str, SecretPlace]:
    found = {}
    for key, value in backend.secrets.items():
        name, _, kind = key.rpartition("_")
        file, variable = (Path(value), None) if kind == "file" else (None, value)
        found[name] = SecretPlace(setting=f"secrets.{key}", file=file, variable=variable)
    return found


def _transport(backend: BackendConfig, sources: Iterable[SourceConfig]) -> HttpOptions | RpcOptions | PluginOptions:
    if backend.is_plugin:
        return _filled(PluginOptions, backend, secrets=_secrets(backend))
    http = _filled(HttpOptions, backend, idle_s=_idle_s(sources), secrets=_secrets(backend))
    if not is_persistent(backend):
        return http
    session = backend.session
    return RpcOptions(
        http=http,
        version=backend.jsonrpc,
        session=RpcSession(
            login=None if session.method is None else Call(session.method, raw(session.params)),
            on_code=session.on_code,
            on_connect=tuple(Call(each.method, raw(each.params)) for each in session.on_connect),
        ),
    )


def _usual_open_max_s(rules: BreakerConfig, sources: Iterable[SourceConfig]) -> float:
    """Return the `open_max_s` of the breakers of `sources`, which share a backend, if the configuration has none.

    It is never less than `open_s`, which may be set alone: then all open periods have that length.
    """
    shortest_s = min((source.interval_s for source in sources), default=0.0)
    return max(rules.open_s, min(max(OPEN_MAX_S, shortest_s * OPEN_MAX_SHARE), OPEN_MAX_LIMIT_S))


def _idle_s(sources: Iterable[SourceConfig]) -> float:
    """Return for how many seconds an idle connection is kept: until the source with the longest interval is due."""
    longest_s = max((max(source.interval_s, source.idle_interval_s or 0.0) for source in sources), default=0.0)
    return min(longest_s + IDLE_MARGIN_S, IDLE_MAX_S)


def _source(source: SourceConfig, event_type: str, backend: BackendConfig) -> SourcePlan:
    spec = _filled(
        SourceSpec,
        source,
        type=event_type,
        timeout_s=backend.timeout_s if source.timeout_s is None else source.timeout_s,
        keyed=source.items is not None,
    )
    return _filled(
        SourcePlan,
        source,
        spec=spec,
        call=call(source, backend),
        breaker=f"{source.backend}/{event_type}" if source.breaker == "own" else source.backend,
        shape=_shape(source),
    )


def _shape(source: SourceConfig) -> Shape:
    items = (source.items,) if isinstance(source.items, str) else source.items
    key = source.key
    # What names the items of one pointer is one level, whether it has one part or more.
    levels = (key,) if isinstance(source.items, str) or isinstance(key, str) else key
    parts = tuple((level,) if isinstance(level, str) else level for level in levels or () if level is not None)
    return _filled(Shape, source, items=items, key=parts)


def _filled(kind: type[T], *tables: Section, **given: Any) -> T:
    """Make a `kind`. Each field comes from `given`, or else from the key of that name in `tables`, or is the default.

    The value of a key that ends in ``_file``, or is ``socket``, becomes a path. No two of `tables` may have a key of
    the same name.
    """
    keys = {key: value for table in tables for key, value in msgspec.structs.asdict(table).items()}
    assert len(keys) == sum(len(table.__struct_fields__) for table in tables), "two tables have a key of the same name"
    named = {field: _as_path(field, keys[field]) for field in kind.__struct_fields__ if field in keys}
    return kind(**{**named, **given})


def _as_path(key: str, value: Any) -> Any:
    is_path = key.endswith("_file") or key == "socket"
    return Path(value) if is_path and value is not None else value
