"""The whole gateway, put together: the only place that names concrete adapters.

Read `running` from top to bottom; everything below it turns a table of the configuration into what a part wants.
"""

import random
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from tidegate import __version__
from tidegate.config import AuthConfig, Config, JwtConfig, TokenConfig
from tidegate.core.backend_plan import BackendPlan, SourcePlan
from tidegate.core.breaker import BreakerConfig
from tidegate.core.envelope import raw
from tidegate.core.freshness import SourceSpec
from tidegate.core.grant import EVERYTHING, Grant, Role
from tidegate.core.outcome import ClassifyPolicy
from tidegate.core.rate import Rate
from tidegate.core.session import SessionLimits
from tidegate.core.subscriber import SendLimits
from tidegate.core.topics import PatternSet
from tidegate.errors import ConfigError
from tidegate.inbound import server
from tidegate.inbound.http_api import HttpOptions as ApiOptions
from tidegate.inbound.http_api import http_api
from tidegate.inbound.http_api.documents.asyncapi import asyncapi_document
from tidegate.inbound.multicast import send_one_by_one, send_to_all
from tidegate.inbound.sse import EventStreams
from tidegate.inbound.websocket import WebSocketOptions, WebSocketServer
from tidegate.outbound.auth import (
    JwksKeys,
    JwtAuthenticator,
    JwtOptions,
    KeyFile,
    KnownToken,
    OpenAuthenticator,
    TokenAuthenticator,
    TokenFile,
    public_key_file,
    secret_file,
)
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.outbound.clock import SystemClock
from tidegate.outbound.metrics import PrometheusMetrics
from tidegate.outbound.store_sqlite import SqliteStore
from tidegate.ports import Authenticator, Backend, Call, Clock, RenderedMetrics, Store
from tidegate.runtime.access import Gate
from tidegate.runtime.exchange import close
from tidegate.runtime.gateway import Gateway, GatewayOptions
from tidegate.runtime.poller import BackendPoller
from tidegate.runtime.supervisor import Supervisor

FAN_OUT_IS_COMPILED = send_to_all is not send_one_by_one

BUILT_IN_DEFAULTS = ("circuit_breaker.*", "source.freshness", "rpc_error", "notification", "heartbeat")
FRAMES_PER_S = 1000.0
FRAMES_BURST = 2000
FRAMES_PER_MESSAGE = 10
"""A client is read no faster than this, fragments and control frames included, or than its messages may need."""

IDLE_MARGIN_S = 5.0
IDLE_MAX_S = 120.0
"""A connection to a backend waits for the longest interval of its sources and the margin, but no longer than this."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the embedding program brings along; what is None, or a backend that is not named, is made here.

    The gateway closes the `store` and the `backends` when it ends, and when it fails to start.
    """

    backends: Mapping[str, Backend] = {}
    clock: Clock | None = None
    metrics: RenderedMetrics | None = None
    store: Store | None = None


OUR_OWN = Parts()


class App:
    """A running gateway. `url` is where it listens."""

    def __init__(
        self, url: str, gateway: Gateway, supervisor: Supervisor, *, drain_s: float, drain_min_s: float
    ) -> None:
        self.url = url
        self.gateway = gateway
        self.supervisor = supervisor
        self._drain_s = drain_s
        self._drain_min_s = drain_min_s

    async def drain(self) -> None:
        """Let the clients go, within the configured time; the listener answers 503 meanwhile."""
        await self.gateway.drain(self._drain_s, at_least_s=self._drain_min_s)


@asynccontextmanager
async def running(
    config: Config, parts: Parts = OUR_OWN, *, beside: AbstractAsyncContextManager[None] | None = None
) -> AsyncIterator[App]:
    """The gateway of `config`, listening and polling while the context is open. `parts` replace what it is made of.

    `beside` is open for as long: from when the address and the state directory are ours, before anything is polled.
    Raises `ConfigError` where a file cannot be used, `OSError` where the address cannot be bound, `StoreError` where
    the state directory cannot. Leaving the context ends everything at once; call `App.drain` before that.
    """
    async with AsyncExitStack() as stack:
        clock = parts.clock if parts.clock is not None else SystemClock()
        # What is made or handed in is closed from the moment that it is there, whatever fails after it.
        if parts.store is not None:
            stack.push_async_callback(parts.store.aclose)
        for name, handed_in in parts.backends.items():
            stack.push_async_callback(close, handed_in, name, clock)
        listener = stack.enter_context(bound(config.server.host, config.server.port))
        tls = tls_context(config)
        url = url_of(listener, tls=tls is not None)
        authenticator = authenticator_for(config.auth)
        store = parts.store if parts.store is not None else await store_for(config)
        if store is not None and store is not parts.store:
            stack.push_async_callback(store.aclose)
        metrics = parts.metrics if parts.metrics is not None else metrics_for(config)

        gateway = Gateway(
            gateway_options(config),
            bus=MemoryBus(),
            clock=clock,
            metrics=metrics,
            authenticator=authenticator,
            multicast=send_to_all,
        )
        pollers = []
        for name in config.backends:
            backend = parts.backends.get(name)
            if backend is None:
                backend = backend_for(config, name)
                stack.push_async_callback(close, backend, name, clock)
            pollers.append(
                BackendPoller(
                    backend_plan(config, name),
                    backend=backend,
                    gateway=gateway,
                    clock=clock,
                    metrics=metrics,
                    store=store,
                    rng=random.Random(),
                )
            )

        gate = gate_for(config, authenticator)
        websocket = WebSocketServer(gateway, gate, websocket_options(config))
        streams = EventStreams(
            gateway, transport_of=server.transport_of, soft_bytes=config.limits.send_buffer_soft_bytes
        )
        supervisor = Supervisor(
            gateway, pollers, store=store, services={"websocket": websocket.run, "access": authenticator.run}
        )
        api = http_api(
            gateway,
            supervisor,
            gate,
            options=http_options(config),
            open_stream=streams.open,
            transport_of=server.transport_of,
            render_metrics=metrics.render,
            asyncapi=asyncapi_for(config, url),
        )

        stack.callback(gateway.refusals.close)
        if beside is not None:
            await stack.enter_async_context(beside)
        await stack.enter_async_context(supervisor.running())
        await stack.enter_async_context(
            server.serve(
                api,
                websocket,
                sock=listener,
                ssl=tls,
                handshake_s=config.limits.handshake_s,
                refused=partial(gateway.refusals.note, "http"),
                body_bytes=config.limits.publish_bytes,
                slow_grace_s=config.limits.slow_grace_s,
            )
        )
        yield App(url, gateway, supervisor, drain_s=config.server.drain_s, drain_min_s=config.server.drain_min_s)


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to the first address that `host` stands for; an IPv6 address may stand in brackets."""
    name = host.removeprefix("[").removesuffix("]")
    family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """Where `listener` is reached; a link-local address only with its zone (RFC 6874)."""
    host, port, *rest = listener.getsockname()
    zone = f"%25{socket.if_indextoname(rest[1])}" if rest and rest[1] else ""
    return f"{'https' if tls else 'http'}://{f'[{host}{zone}]' if ':' in host else host}:{port}"


def tls_context(config: Config) -> ssl.SSLContext | None:
    """What our own TLS needs; None without a certificate. Raises `ConfigError` for files that cannot be used."""
    if config.server.tls_cert_file is None or config.server.tls_key_file is None:
        return None
    return server.tls_context(Path(config.server.tls_cert_file), Path(config.server.tls_key_file))


async def store_for(config: Config) -> Store | None:
    """What keeps last good values on disk; None where that is turned off."""
    return await SqliteStore.open(Path(config.server.state_dir)) if config.server.state_dir else None


def metrics_for(config: Config) -> PrometheusMetrics:
    return PrometheusMetrics(version=__version__, known_types=tuple(config.sources))


def gateway_options(config: Config) -> GatewayOptions:
    limits = config.limits
    return GatewayOptions(
        server=f"tidegate/{__version__}",
        source_types=frozenset(config.sources),
        default_types=config.server.default_types or (*config.sources, *BUILT_IN_DEFAULTS),
        heartbeat_interval_s=config.server.heartbeat_interval_s,
        history_events=config.history.events,
        history_bytes=config.history.bytes,
        event_bytes=limits.event_bytes,
        retained_keys=limits.retained_keys,
        retained_bytes=limits.retained_bytes,
        publishes=Rate(limits.publishes_per_s, limits.publishes_burst),
        max_clients=config.server.max_clients,
        connects=Rate(limits.connects_per_s, limits.connects_burst),
        session_limits=SessionLimits(
            patterns=limits.patterns, messages_per_s=limits.messages_per_s, messages_burst=limits.messages_burst
        ),
        send_limits=SendLimits(hard_bytes=limits.send_buffer_hard_bytes, grace_s=limits.slow_grace_s),
    )


def authenticator_for(auth: AuthConfig) -> OpenAuthenticator | TokenAuthenticator | JwtAuthenticator:
    """What knows the bearers of tokens. Reads files; raises `ConfigError` naming the setting at fault."""
    match auth.mode:
        case "none":
            return OpenAuthenticator()
        case "token":
            return TokenAuthenticator([_known_token(token, n) for n, token in enumerate(auth.tokens)])
        case "jwt":
            assert auth.jwt is not None, "the configuration's rules see to it"
            options = JwtOptions(algorithms=auth.jwt.algorithms, audience=auth.jwt.audience, issuer=auth.jwt.issuer)
            return JwtAuthenticator(_keys(auth.jwt), options)


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


def _keys(jwt: JwtConfig) -> JwksKeys | KeyFile:
    if jwt.jwks_url is not None:
        return JwksKeys(jwt.jwks_url, setting="auth.jwt.jwks_url")
    if jwt.secret_file is not None:
        return secret_file(Path(jwt.secret_file), setting="auth.jwt.secret_file")
    assert jwt.key_file is not None, "the configuration's rules see to it"
    return public_key_file(Path(jwt.key_file), setting="auth.jwt.key_file")


def gate_for(config: Config, authenticator: Authenticator) -> Gate:
    return Gate(
        authenticator=authenticator,
        bound_host=config.server.host,
        hosts=config.server.allowed_hosts,
        origins=config.server.allowed_origins,
        trusted_proxies=config.server.trusted_proxies,
    )


def http_options(config: Config) -> ApiOptions:
    return ApiOptions(
        version=__version__,
        publish_bytes=config.limits.publish_bytes,
        body_s=config.limits.handshake_s,
        root_path=config.server.root_path,
        auth=config.auth.mode,
    )


def asyncapi_for(config: Config, url: str) -> bytes:
    """What streams carry, for a gateway that listens at `url`."""
    api = http_options(config)
    return asyncapi_document(version=api.version, url=url, root_path=api.root_path, auth_required=api.auth_required)


def websocket_options(config: Config) -> WebSocketOptions:
    return WebSocketOptions(
        message_bytes=config.limits.message_bytes,
        frames=Rate(
            max(FRAMES_PER_S, config.limits.messages_per_s * FRAMES_PER_MESSAGE),
            max(FRAMES_BURST, config.limits.messages_burst * FRAMES_PER_MESSAGE),
        ),
        send_buffer_soft_bytes=config.limits.send_buffer_soft_bytes,
        send_buffer_hard_bytes=config.limits.send_buffer_hard_bytes,
        root_path=config.server.root_path,
    )


def backend_for(config: Config, name: str) -> Backend:
    """The backend `name` of `config`. Reads files; raises `ConfigError` naming the setting at fault."""
    backend = config.backends[name]
    options = HttpOptions(
        url=backend.url,
        response_bytes=backend.response_bytes,
        headers=backend.headers,
        bearer_token_file=_path(backend.bearer_token_file),
        ca_file=_path(backend.ca_file),
        client_cert_file=_path(backend.client_cert_file),
        client_key_file=_path(backend.client_key_file),
        connection_max_s=backend.connection_max_s,
        idle_s=_idle_s(config, name),
    )
    try:
        return JsonRpcBackend(options) if backend.protocol == "jsonrpc" else HttpJsonBackend(options)
    except ConfigError as error:
        problems = [msgspec.structs.replace(each, path=f"backends.{name}.{each.path}") for each in error.problems]
        raise ConfigError(problems) from error


def _idle_s(config: Config, name: str) -> float:
    """For how long a connection to the backend `name` is kept without a call: until its rarest source is due again."""
    sources = [source for source in config.sources.values() if source.backend == name]
    longest_s = max((max(source.interval_s, source.idle_interval_s or 0.0) for source in sources), default=0.0)
    return min(longest_s + IDLE_MARGIN_S, IDLE_MAX_S)


def backend_plan(config: Config, name: str) -> BackendPlan:
    """How the backend `name` and its sources are polled."""
    backend = config.backends[name]
    rules = backend.breaker
    return BackendPlan(
        name=name,
        timeout_s=backend.timeout_s,
        batch=backend.batch,
        connections=backend.connections,
        breaker=BreakerConfig(
            failure_threshold=rules.failure_threshold,
            open_s=rules.open_s,
            open_max_s=rules.open_max_s,
            half_open_successes=rules.half_open_successes,
            heal_s=rules.heal_s,
            probe_deadline_s=backend.timeout_s + 1.0,
            failure_rate=rules.failure_rate,
            rate_window_s=rules.rate_window_s,
            rate_minimum_calls=rules.rate_minimum_calls,
        ),
        policy=ClassifyPolicy(
            slow_s=rules.slow_s,
            ignored_codes=frozenset(rules.ignored_codes),
            retry_after_max_s=backend.retry_after_max_s,
        ),
        event_bytes=config.limits.event_bytes,
        rpc_error_interval_s=config.limits.rpc_error_interval_s,
        sources=[
            SourcePlan(
                spec=SourceSpec(
                    type=event_type,
                    source=name,
                    interval_s=source.interval_s,
                    timeout_s=backend.timeout_s,
                    max_stale_s=source.max_stale_s,
                    on_change=source.on_change,
                    stale_repeat=source.stale_repeat,
                    keyed=source.key is not None,
                ),
                call=Call(source.method, raw(source.params)),
                breaker=f"{name}/{event_type}" if source.breaker == "own" else name,
                select=source.select,
                items=source.items or "",
                key=source.key,
                idle_interval_s=source.idle_interval_s,
            )
            for event_type, source in config.sources.items()
            if source.backend == name
        ],
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
