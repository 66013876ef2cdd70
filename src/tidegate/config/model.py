"""What a configuration holds: every table of ``tidegate.toml`` as a frozen struct, every key with its default.

The docstrings are the reference of the keys; `render.schema` copies them into the JSON Schema. Durations are float
seconds, sizes are bytes. Paths are absolute once `loading.load` has read them.
"""

from typing import Annotated, Literal

import msgspec

from tidegate.config import formats
from tidegate.core.grant import RoleName
from tidegate.core.masking import MASK, Masked, mask_headers, mask_strings, mask_url

Algorithm = Literal["HS256", "RS256", "ES256"]


class Section(Masked, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class ServerConfig(Section, frozen=True, kw_only=True):
    """How clients reach the gateway.

    `host`: Address or name to listen on. Anything but loopback needs `[auth]`.
    `port`: TCP port; 0 takes any free one.
    `state_dir`: Directory for the last good values. "" turns that off; absent, it is $STATE_DIRECTORY, else tidegate/
        under the XDG state home; without a home directory, off.
    `allowed_hosts`: Names that a Host header may carry beside localhost, 127.0.0.1, [::1], the bound address and the
        address at which a connection arrived.
    `allowed_origins`: Origins whose pages may connect, beside those of the same host; "null" stands for file:// pages.
    `trusted_proxies`: Addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are believed.
    `root_path`: The prefix under which a proxy serves us.
    `tls_cert_file`: Certificate chain in PEM; goes with `tls_key_file`.
    `tls_key_file`: Private key in PEM; goes with `tls_cert_file`.
    `default_types`: Patterns of a client that names none; empty: all sources and the built-in types.
    `heartbeat_interval_s`: Seconds between two heartbeats.
    `drain_s`: Seconds that a shutdown takes at the most to let clients go.
    `drain_min_s`: Seconds that it takes at the least, though no client is connected: a load balancer's probe period.
    `max_clients`: Connections at once, beyond which new ones are refused with 503.
    """

    host: formats.Name = "127.0.0.1"
    port: formats.Port = 12080
    state_dir: formats.DirectoryPath | None = None
    allowed_hosts: tuple[formats.HostName, ...] = ()
    allowed_origins: tuple[formats.Origin, ...] = ()
    trusted_proxies: tuple[formats.Address, ...] = ()
    root_path: formats.RootPath = ""
    tls_cert_file: formats.FilePath | None = None
    tls_key_file: formats.FilePath | None = None
    default_types: tuple[formats.Pattern, ...] = ()
    heartbeat_interval_s: formats.Seconds = 10.0
    drain_s: formats.SecondsOrZero = 5.0
    drain_min_s: formats.SecondsOrZero = 0.0
    max_clients: formats.Count = 10000


class LimitsConfig(Section, frozen=True, kw_only=True):
    """What one client, one request or one event may take.

    `message_bytes`: Longest inbound WebSocket message.
    `publish_bytes`: Longest body of one POST.
    `retained_keys`: Published values that are retained; one more is refused with 507.
    `retained_bytes`: Their data together.
    `publishes_per_s`: Events per second and publisher, in the long run; more are refused with 429.
    `publishes_burst`: Events that a publisher may send at once; also the longest array of one POST.
    `event_bytes`: Longest data of one event.
    `messages_per_s`: Inbound WebSocket messages per second and connection, in the long run.
    `messages_burst`: Inbound WebSocket messages that may come at once.
    `patterns`: Patterns per connection.
    `connects_per_s`: New clients per second, in the long run; more are refused with 503 and told when to come back.
    `connects_burst`: New clients that may come at once, as after a restart.
    `send_buffer_soft_bytes`: Unsent bytes above which a slow client's events are conflated.
    `send_buffer_hard_bytes`: Waiting bytes above which a slow client is disconnected at once.
    `slow_grace_s`: Seconds above the soft limit without any progress before a slow client is disconnected.
    `handshake_s`: Seconds within which a new connection must have sent its request.
    `rpc_error_interval_s`: Seconds between two `rpc_error` events of one source while it keeps failing.
    """

    message_bytes: formats.Size = 65536
    publish_bytes: formats.Size = 1048576
    retained_keys: formats.Count = 100000
    retained_bytes: formats.Size = 268435456
    publishes_per_s: formats.Rate = 2000.0
    publishes_burst: formats.Count = 5000
    event_bytes: formats.Size = 1048576
    messages_per_s: formats.Rate = 50.0
    messages_burst: formats.Count = 100
    patterns: formats.Count = 128
    connects_per_s: formats.Rate = 1000.0
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
    """When a backend is taken for failed, and how it is tried again.

    `failure_threshold`: Consecutive failures that open the breaker.
    `open_s`: First open period in seconds; it doubles with each failed probe, with jitter in the upper half.
    `open_max_s`: Longest open period in seconds.
    `half_open_successes`: Probes in a row that must succeed to close the breaker.
    `heal_s`: Seconds closed after which the next open period starts from `open_s` again.
    `slow_s`: Seconds beyond which a good answer counts as a failure; absent: never.
    `ignored_codes`: JSON-RPC error codes that are not held against the backend, beside the standard ones.
    `failure_rate`: Share of failed calls within `rate_window_s` that opens the breaker too; absent: off.
    `rate_window_s`: Seconds over which `failure_rate` is taken.
    `rate_minimum_calls`: Calls within the window below which `failure_rate` says nothing.
    """

    failure_threshold: formats.Count = 5
    open_s: formats.Seconds = 5.0
    open_max_s: formats.Seconds = 300.0
    half_open_successes: formats.Count = 1
    heal_s: formats.SecondsOrZero = 30.0
    slow_s: formats.Seconds | None = None
    ignored_codes: tuple[int, ...] = ()
    failure_rate: formats.Share | None = None
    rate_window_s: formats.Seconds = 60.0
    rate_minimum_calls: formats.Count = 10


class BackendConfig(Section, frozen=True, kw_only=True):
    """A service that is polled.

    `url`: Where JSON-RPC requests are posted, or what the methods of an http backend are relative to.
    `protocol`: "jsonrpc" (JSON-RPC 2.0 over POST) or "http" (GET; the body is the result).
    `timeout_s`: Seconds within which a call must be answered.
    `response_bytes`: Longest answer.
    `batch`: Whether sources that are due together are asked for in one JSON-RPC batch; many servers can't.
    `connections`: Calls under way at once; 1 for a device that serves one at a time. Others wait for their turn.
    `connection_max_s`: Seconds after which a connection is replaced once the call on it is over, so that a name which
        moves to another address is followed although the old one still answers.
    `retry_after_max_s`: Longest that the Retry-After of a 429 or 503 is heeded, in seconds; 0 ignores it.
    `headers`: Headers sent with every request. With `Connection = "close"` each call has a connection of its own.
    `bearer_token_file`: File with a token that is sent as Authorization: Bearer.
    `ca_file`: Certificates in PEM by which the backend's own is checked, instead of the system's.
    `client_cert_file`: Our certificate in PEM; goes with `client_key_file`.
    `client_key_file`: Its private key in PEM; goes with `client_cert_file`.
    `breaker`: The backend's circuit breaker, and that of its sources with a breaker of their own.
    """

    url: formats.Url
    protocol: Literal["jsonrpc", "http"] = "jsonrpc"
    timeout_s: formats.Seconds = 2.0
    response_bytes: formats.Size = 8388608
    batch: bool = False
    connections: formats.Count = 16
    connection_max_s: formats.Seconds = 300.0
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
    """One polled method of one backend; its results become events of the type that the table is named for.

    `backend`: Name of a table under `[backends]`.
    `method`: JSON-RPC method, or for an http backend the path with query under its URL.
    `params`: Parameters of the JSON-RPC call.
    `interval_s`: Seconds from one poll to the next; the first comes within min(interval_s, 1 s).
    `idle_interval_s`: Seconds between polls while nobody is subscribed; absent: as `interval_s`.
    `on_change`: Publish only when the data or its freshness changed.
    `select`: JSON Pointer to the part of the result that is wanted; "" is the whole.
    `items`: JSON Pointer to a list in the result that becomes keyed events; goes with `key`.
    `key`: The field that names an item of the list; goes with `items`.
    `stale_repeat`: Publish the stale event again at each due tick.
    `max_stale_s`: Age in seconds beyond which a stale value is no longer shown; absent: it always is.
    `breaker`: "backend" to share the backend's circuit breaker, "own" for one of its own.
    """

    backend: formats.Name
    method: formats.Name
    params: formats.Json = {}
    interval_s: formats.Seconds = 5.0
    idle_interval_s: formats.Seconds | None = None
    on_change: bool = False
    select: formats.Pointer = ""
    items: formats.Pointer | None = None
    key: formats.Name | None = None
    stale_repeat: bool = True
    max_stale_s: formats.Seconds | None = None
    breaker: Literal["backend", "own"] = "backend"

    def public(self) -> dict[str, object]:
        return super().public() | {"method": mask_url(self.method), "params": mask_strings(self.params)}


class TokenConfig(Section, frozen=True, kw_only=True):
    """A token that clients may show; either `token` or `token_file`.

    `token`: The token itself.
    `token_file`: File that holds the token.
    `roles`: What its bearer may do.
    `types`: Patterns of what its bearer may see, publish, forget and poll; absent: everything.
    """

    token: formats.Token | None = None
    token_file: formats.FilePath | None = None
    roles: Annotated[tuple[RoleName, ...], msgspec.Meta(min_length=1)] = ("subscriber",)
    types: tuple[formats.Pattern, ...] | None = None

    def public(self) -> dict[str, object]:
        return super().public() | {"token": None if self.token is None else MASK}


class JwtConfig(Section, frozen=True, kw_only=True):
    """How signed tokens are checked: claims `roles`, `types`, `exp`, `sub`. One of the three key sources.

    `algorithms`: Signatures that are accepted: HS256 with `secret_file`, RS256 and ES256 with the others.
    `key_file`: Public key in PEM.
    `jwks_url`: Where the issuer publishes its keys (RFC 7517).
    `secret_file`: File that holds the shared secret.
    `audience`: What `aud` must contain; absent: not checked.
    `issuer`: What `iss` must be; absent: not checked.
    """

    algorithms: Annotated[tuple[Algorithm, ...], msgspec.Meta(min_length=1)] = ("RS256",)
    key_file: formats.FilePath | None = None
    jwks_url: formats.Url | None = None
    secret_file: formats.FilePath | None = None
    audience: formats.Name | None = None
    issuer: formats.Name | None = None

    def public(self) -> dict[str, object]:
        return super().public() | {"jwks_url": None if self.jwks_url is None else mask_url(self.jwks_url)}


class AuthConfig(Section, frozen=True, kw_only=True):
    """Who may do what.

    `mode`: "none" gives everyone every role and is for loopback only; "token" asks for one of `tokens`; "jwt" for a
        signed token.
    `tokens`: The tokens of mode "token".
    `jwt`: The keys of mode "jwt".
    """

    mode: Literal["none", "token", "jwt"] = "none"
    tokens: tuple[TokenConfig, ...] = ()
    jwt: JwtConfig | None = None


class Config(Section, frozen=True, kw_only=True):
    """A whole configuration.

    `server`: How clients reach the gateway.
    `limits`: What one client, one request or one event may take.
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
