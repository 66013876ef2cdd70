"""The model of the configuration: each table of ``tidegate.toml`` as a frozen struct, each key with its default.

The docstrings document the keys; `render.schema` copies them into the JSON Schema. Durations are float seconds, sizes
are bytes. `loading.load` makes all paths absolute.
"""

from typing import Annotated, Literal

import msgspec

from tidegate.config import formats
from tidegate.core.access.grant import RoleName
from tidegate.core.masking import MASK, Masked, mask_headers, mask_strings, mask_url

Algorithm = Literal["HS256", "RS256", "ES256"]


class Section(Masked, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class ServerConfig(Section, frozen=True, kw_only=True):
    """How clients reach the gateway.

    `host`: Address or name to listen on. An address other than loopback needs `[auth]`.
    `port`: TCP port; 0 for any free port.
    `state_dir`: Directory for the last good values. What publishers had retained is kept there too. "" turns it off.
        The default is $STATE_DIRECTORY, else tidegate/ under the XDG state home; without a home directory, it is off.
    `allowed_hosts`: Names that a Host header may contain, besides localhost, 127.0.0.1, [::1], the bound address and
        the address at which the connection arrived.
    `allowed_origins`: Origins whose pages may connect, besides those of the same host; "null" means file:// pages.
    `frame_ancestors`: Origins of the sites that may show the page /embed in a frame.
    `trusted_proxies`: Addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are trusted.
    `root_path`: Prefix under which a proxy serves the gateway.
    `tls_cert_file`: Certificate chain in PEM; requires `tls_key_file`.
    `tls_key_file`: Private key in PEM; requires `tls_cert_file`.
    `default_types`: Patterns for clients that name none; empty: all sources and the built-in types.
    `heartbeat_interval_s`: Seconds between two heartbeats.
    `drain_s`: Longest drain at shutdown, in seconds.
    `drain_min_s`: Shortest drain at shutdown, in seconds, even without clients. Set it to the probe period of a load
        balancer.
    `max_clients`: Limit on connections. More are refused with 503.
    """

    host: formats.NonEmpty = "127.0.0.1"
    port: formats.Port = 12080
    state_dir: formats.DirectoryPath | None = None
    allowed_hosts: tuple[formats.HostName, ...] = ()
    allowed_origins: tuple[formats.OriginText, ...] = ()
    frame_ancestors: tuple[formats.FrameAncestor, ...] = ()
    trusted_proxies: tuple[formats.AddressOrNetwork, ...] = ()
    root_path: formats.RootPath = ""
    tls_cert_file: formats.FilePath | None = None
    tls_key_file: formats.FilePath | None = None
    default_types: tuple[formats.Pattern, ...] = ()
    heartbeat_interval_s: formats.Seconds = 10.0
    drain_s: formats.SecondsOrZero = 5.0
    drain_min_s: formats.SecondsOrZero = 0.0
    max_clients: formats.Count = 10000


class LimitsConfig(Section, frozen=True, kw_only=True):
    """Limits on one client, one request or one event.

    `message_bytes`: Longest inbound WebSocket message.
    `publish_bytes`: Longest body of one POST.
    `retained_keys`: Number of retained published values; one more is refused with 507.
    `retained_bytes`: Total size of the retained published values.
    `publishes_per_s`: Events per second from one publisher, on average; more are refused with 429.
    `publishes_burst`: Events that a publisher may send at once; also the longest array in one POST.
    `event_bytes`: Longest data of one event.
    `messages_per_s`: Inbound WebSocket messages per second on one connection, on average.
    `messages_burst`: Inbound WebSocket messages that may come at once.
    `patterns`: Patterns per connection.
    `connects_per_s`: New clients per second, on average; more are refused with 503 and Retry-After.
    `connects_burst`: New clients that may come at once, as after a restart.
    `send_buffer_soft_bytes`: Unsent bytes above which a slow client's events are conflated.
    `send_buffer_hard_bytes`: Waiting bytes above which a slow client is disconnected at once.
    `slow_grace_s`: Seconds above the soft limit without any progress before a slow client is disconnected.
    `handshake_s`: Seconds within which a new connection must have sent its request.
    `rpc_error_interval_s`: Seconds between two `rpc_error` events of a source that keeps failing.
    """

    message_bytes: formats.Size = 65536
    publish_bytes: formats.Size = 1048576
    retained_keys: formats.Count = 100000
    retained_bytes: formats.Size = 268435456
    publishes_per_s: formats.PerSecond = 2000.0
    publishes_burst: formats.Count = 5000
    event_bytes: formats.Size = 1048576
    messages_per_s: formats.PerSecond = 50.0
    messages_burst: formats.Count = 100
    patterns: formats.Count = 128
    connects_per_s: formats.PerSecond = 1000.0
    connects_burst: formats.Count = 5000
    send_buffer_soft_bytes: formats.Size = 262144
    send_buffer_hard_bytes: formats.Size = 4194304
    slow_grace_s: formats.Seconds = 10.0
    handshake_s: formats.Seconds = 10.0
    rpc_error_interval_s: formats.SecondsOrZero = 30.0


class HistoryConfig(Section, frozen=True, kw_only=True):
    """How much is kept for clients that resume; the smaller limit wins, 0 keeps nothing.

    `events`: Events kept.
    `bytes`: Bytes kept.
    """

    events: formats.CountOrZero = 10000
    bytes: formats.SizeOrZero = 67108864


class BreakerConfig(Section, frozen=True, kw_only=True):
    """When a circuit breaker opens, and how it closes again.

    `failure_threshold`: Consecutive failures that open the breaker.
    `open_s`: First open period in seconds; it doubles with each failed probe, with jitter in the upper half.
    `open_max_s`: Longest open period in seconds; default: 15, or a tenth of the backend's shortest interval if that is
        more, but at most 300; and at least `open_s`.
    `half_open_successes`: Consecutive probes that must succeed to close the breaker.
    `heal_s`: After the breaker was closed for this many seconds, the next open period starts from `open_s` again.
    `slow_s`: A good answer that takes longer than this many seconds counts as a failure; default: off.
    `ignored_codes`: JSON-RPC error codes that do not count as failures, in addition to the standard ones.
    `failure_rate`: Share of failed calls within `rate_window_s` that also opens the breaker; default: off.
    `rate_window_s`: Seconds over which `failure_rate` is measured.
    `rate_minimum_calls`: Calls within the window that are needed before `failure_rate` applies.
    """

    failure_threshold: formats.Count = 5
    open_s: formats.Seconds = 2.0
    open_max_s: formats.Seconds | None = None
    half_open_successes: formats.Count = 1
    heal_s: formats.SecondsOrZero = 30.0
    slow_s: formats.Seconds | None = None
    ignored_codes: tuple[int, ...] = ()
    failure_rate: formats.Fraction | None = None
    rate_window_s: formats.Seconds = 60.0
    rate_minimum_calls: formats.Count = 10


class BackendConfig(Section, frozen=True, kw_only=True):
    """A service that is polled.

    `url`: URL to which JSON-RPC requests are posted, or to which the methods of an http backend are relative.
    `protocol`: "jsonrpc" (JSON-RPC 2.0 over POST) or "http" (GET; the body is the result).
    `timeout_s`: Seconds within which a call must be answered.
    `response_bytes`: Longest answer.
    `batch`: Whether to poll all due sources in one JSON-RPC batch, which many servers don't support.
    `connections`: Limit on concurrent calls; 1 for a device that serves one at a time. More calls wait for their turn.
    `connection_max_s`: Seconds after which a connection is replaced, once its call is over. So a change in DNS takes
        effect even if the old address still answers.
    `retry_s`: Seconds after which a failed poll is repeated, doubled with each failure in a row; 0 waits for the next
        poll.
    `retry_after_max_s`: Limit on the Retry-After of a 429 or 503, and on the pause after a 429 without one, in seconds;
        0 turns both off.
    `headers`: Headers sent with every request. With `Connection = "close"`, each call opens a new connection.
    `bearer_token_file`: File with a token that is sent as Authorization: Bearer.
    `ca_file`: Certificates in PEM with which to verify the backend's certificate, instead of the system's.
    `client_cert_file`: Client certificate in PEM; requires `client_key_file`.
    `client_key_file`: Private key of the client certificate in PEM; requires `client_cert_file`.
    `breaker`: Settings of the backend's circuit breaker, and of the separate breakers of its sources.
    """

    url: formats.Url
    protocol: Literal["jsonrpc", "http"] = "jsonrpc"
    timeout_s: formats.Seconds = 2.0
    response_bytes: formats.Size = 8388608
    batch: bool = False
    connections: formats.Count = 16
    connection_max_s: formats.Seconds = 300.0
    retry_s: formats.RetrySeconds = 1.0
    retry_after_max_s: formats.SecondsOrZero = 300.0
    headers: dict[formats.HeaderName, formats.HeaderValue] = {}
    bearer_token_file: formats.FilePath | None = None
    ca_file: formats.FilePath | None = None
    client_cert_file: formats.FilePath | None = None
    client_key_file: formats.FilePath | None = None
    breaker: BreakerConfig = BreakerConfig()

    def public(self) -> dict[str, object]:
        return super().public() | {"url": mask_url(self.url), "headers": mask_headers(self.headers)}


class SourceConfig(Section, frozen=True, kw_only=True):
    """One polled method of one backend. Its results become events of the type that is the table's name.

    `backend`: Name of a table under `[backends]`.
    `method`: JSON-RPC method; for an http backend, the path and query under its URL.
    `params`: Parameters of the JSON-RPC call.
    `interval_s`: Seconds from one poll to the next; the first comes within min(interval_s, 1 s).
    `idle_interval_s`: Seconds between polls while nobody is subscribed; default: `interval_s`.
    `on_change`: Publish only when the data or its freshness changed.
    `select`: JSON Pointer to the part of the result to publish; "" is the whole result.
    `items`: JSON Pointer to a list in the result that becomes keyed events; requires `key`.
    `key`: The field that holds the key of an item of the list; requires `items`.
    `stale_repeat`: Publish the stale event again at each due tick.
    `max_stale_s`: Age in seconds beyond which a stale value is no longer shown; default: no limit.
    `breaker`: "backend" to share the backend's circuit breaker, "own" for a separate one.
    """

    backend: formats.NonEmpty
    method: formats.NonEmpty
    params: formats.JsonParams = {}
    interval_s: formats.Seconds = 5.0
    idle_interval_s: formats.Seconds | None = None
    on_change: bool = False
    select: formats.Pointer = ""
    items: formats.Pointer | None = None
    key: formats.NonEmpty | None = None
    stale_repeat: bool = True
    max_stale_s: formats.Seconds | None = None
    breaker: Literal["backend", "own"] = "backend"

    def public(self) -> dict[str, object]:
        return super().public() | {"method": mask_url(self.method), "params": mask_strings(self.params)}


class TokenConfig(Section, frozen=True, kw_only=True):
    """A token that clients may use. Exactly one of `token` and `token_file` is given.

    `token`: The token itself.
    `token_file`: File that contains the token.
    `roles`: What the token allows.
    `types`: Patterns of the types that the token allows to see, publish, forget and poll; default: everything.
    """

    token: formats.TokenText | None = None
    token_file: formats.FilePath | None = None
    roles: Annotated[tuple[RoleName, ...], msgspec.Meta(min_length=1)] = ("subscriber",)
    types: tuple[formats.Pattern, ...] | None = None

    def public(self) -> dict[str, object]:
        return super().public() | {"token": None if self.token is None else MASK}


class JwtConfig(Section, frozen=True, kw_only=True):
    """How signed tokens (claims `roles`, `types`, `exp`, `sub`) are verified. Exactly one source of keys is given.

    `algorithms`: Accepted signature algorithms: HS256 with `secret_file`, RS256 and ES256 with the other sources.
    `key_file`: Public key in PEM.
    `jwks_url`: URL at which the issuer publishes its keys (RFC 7517).
    `secret_file`: File that contains the shared secret.
    `audience`: What `aud` must contain; default: not checked.
    `issuer`: What `iss` must be; default: not checked.
    """

    algorithms: Annotated[tuple[Algorithm, ...], msgspec.Meta(min_length=1)] = ("RS256",)
    key_file: formats.FilePath | None = None
    jwks_url: formats.Url | None = None
    secret_file: formats.FilePath | None = None
    audience: formats.NonEmpty | None = None
    issuer: formats.NonEmpty | None = None

    def public(self) -> dict[str, object]:
        return super().public() | {"jwks_url": None if self.jwks_url is None else mask_url(self.jwks_url)}


class AuthConfig(Section, frozen=True, kw_only=True):
    """Who may do what.

    `mode`: "none" gives everyone all roles, and is for loopback only; "token" requires one of `tokens`; "jwt" requires
        a signed token.
    `tokens`: The tokens for mode "token".
    `jwt`: The keys for mode "jwt".
    """

    mode: Literal["none", "token", "jwt"] = "none"
    tokens: tuple[TokenConfig, ...] = ()
    jwt: JwtConfig | None = None


class Config(Section, frozen=True, kw_only=True):
    """A whole configuration.

    `server`: How clients reach the gateway.
    `limits`: Limits on one client, one request or one event.
    `history`: How much is kept for clients that resume.
    `backends`: The services that are polled, by name.
    `sources`: What is polled, by event type.
    `auth`: Who may do what.
    """

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    history: HistoryConfig = HistoryConfig()
    backends: dict[formats.BackendName, BackendConfig] = {}
    sources: dict[formats.EventType, SourceConfig] = {}
    auth: AuthConfig = AuthConfig()
