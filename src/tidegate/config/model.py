"""The model of the configuration: each table of ``tidegate.toml`` as a frozen struct, each key with its default.

The tables of backends and sources are in `backends`.

The docstrings document the keys; `render.schema` copies them into the JSON Schema. Durations are float seconds, sizes
are bytes. `loading.load` makes all paths absolute.
"""

from typing import Annotated, Literal

import msgspec

from tidegate.config import formats
from tidegate.config.backends import BackendConfig, SourceConfig
from tidegate.config.section import Section
from tidegate.core.access.grant import RoleName
from tidegate.core.masking import mask_url
from tidegate.secret import MASK

Algorithm = Literal["HS256", "RS256", "ES256"]


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
    `allow_no_sources`: Accept a file without a source: a gateway for publishers only.
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
    allow_no_sources: bool = False


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


class Config(Section, msgspec.Struct, frozen=True, kw_only=True):
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
