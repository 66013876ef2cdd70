"""Configurations to start from: `EXAMPLE` for ``config init``, `demo_config` for ``serve`` without a file."""

from collections.abc import Mapping

from tidegate.config.loading import from_document
from tidegate.config.model import Config


def demo_config(
    engine_url: str, *, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Config:
    """What ``serve`` runs without a file: this machine, and its compression jobs, from the engine at `engine_url`.

    `environ` and `overrides` are put over it as in `load`. Raises `ConfigError`.
    """
    lists = {"backend": "engine", "key": "id", "on_change": True}
    document = {
        "backends": {"engine": {"url": engine_url, "batch": True}},
        "sources": {
            "system.status": {"backend": "engine", "method": "system.status", "interval_s": 2.0},
            "storage.update": {**lists, "method": "storage.status", "items": "/volumes", "interval_s": 2.0},
            "compression.update": {**lists, "method": "compression.list", "items": "/jobs", "interval_s": 1.0},
            "agent.status": {**lists, "method": "agents.list", "items": "/agents", "interval_s": 1.0},
        },
    }
    return from_document(document, environ=environ, overrides=overrides)


EXAMPLE = """\
# Tidegate. Lines that begin with "#" and a letter or bracket are settings with their defaults, or examples.

[backends.engine]                  # a service that answers JSON-RPC 2.0 over HTTP POST
url = "http://127.0.0.1:12081/rpc"

[sources."system.status"]          # an event type, and where its events come from
backend = "engine"
method = "system.status"
interval_s = 5.0

# More about that source:
#params = {}
#idle_interval_s = 60.0            # slower polling while nobody is subscribed; absent: no difference
#on_change = false                 # publish only when the data or its freshness changed
#select = ""                       # JSON Pointer to the part of the result that is wanted
#stale_repeat = true               # publish the stale event again at each due tick
#max_stale_s = 3600.0              # older values are no longer shown; absent: they always are
#breaker = "backend"               # "own": a circuit breaker for this source alone

# A list in the result becomes one event per new or changed item:
#[sources."agent.status"]
#backend = "engine"
#method = "agents.list"
#items = "/agents"                 # JSON Pointer to the list; "" for the result itself
#key = "id"                        # the field that names an item
#interval_s = 2.0

# A backend with everything that can be set. Protocol "http" fetches `method` under `url` with GET.
#[backends.other]
#url = "https://status.example/rpc"
#protocol = "jsonrpc"
#timeout_s = 2.0
#response_bytes = 8388608
#batch = false                     # one JSON-RPC batch for all sources that are due together; many servers can't
#connections = 16                  # calls at once; 1 for a device that serves one connection at a time
#connection_max_s = 300.0          # an older connection is replaced after its call: a name that moves is followed
#retry_after_max_s = 300.0         # how long a Retry-After of 429 or 503 is heeded at most
#headers = {}
#bearer_token_file = "bearer"      # relative paths begin beside this file
#ca_file = "ca.pem"
#client_cert_file = "client.pem"
#client_key_file = "client.key"

#[backends.other.breaker]
#failure_threshold = 5             # consecutive failures
#open_s = 5.0                      # first open period; doubles, with jitter in the upper half, up to
#open_max_s = 300.0
#half_open_successes = 1           # probes in a row that must succeed to close
#heal_s = 30.0                     # closed for so long: the next open period starts from open_s again
#slow_s = 1.5                      # slower answers count as failures; absent: none does
#ignored_codes = []                # JSON-RPC error codes that say nothing about the backend's health
#failure_rate = 0.5                # share of failures within the window that opens it too; absent: off
#rate_window_s = 60.0
#rate_minimum_calls = 10

#[server]
#host = "127.0.0.1"                # any address beyond loopback needs [auth]
#port = 12080
#state_dir = ""                    # "": nothing on disk; absent: $STATE_DIRECTORY, else the XDG state home
#allowed_hosts = []                # beside localhost, 127.0.0.1, [::1] and our own addresses
#allowed_origins = []              # beside the same host; "null" allows file:// pages
#trusted_proxies = []              # addresses whose X-Forwarded-For and -Proto are believed
#root_path = ""                    # when a proxy serves us under a prefix
#tls_cert_file = "server.pem"
#tls_key_file = "server.key"
#default_types = []                # patterns of a client that names none; empty: all sources and built-in types
#heartbeat_interval_s = 10.0
#drain_s = 5.0
#drain_min_s = 0.0                 # at least so long, though nobody is connected: a load balancer's probe period
#max_clients = 10000

#[limits]
#message_bytes = 65536             # inbound WebSocket message
#publish_bytes = 1048576           # one POST
#retained_keys = 100000             # published values that are retained
#retained_bytes = 268435456         # their data together
#publishes_per_s = 2000.0           # events of one publisher
#publishes_burst = 5000             # and the longest array of one POST
#event_bytes = 1048576             # one event's data
#messages_per_s = 50.0
#messages_burst = 100
#patterns = 128                    # per connection
#connects_per_s = 1000.0           # new clients
#connects_burst = 5000
#send_buffer_soft_bytes = 262144
#send_buffer_hard_bytes = 4194304
#slow_grace_s = 10.0
#handshake_s = 10.0
#rpc_error_interval_s = 30.0

#[history]
#events = 10000
#bytes = 67108864

#[auth]
#mode = "token"                    # "none" (the default) is for loopback only; "jwt" asks for signed tokens

#[[auth.tokens]]
#token_file = "token"              # or token = "…"
#roles = ["subscriber"]            # subscriber, publisher, admin
#types = ["system.*"]              # absent: everything

#[auth.jwt]                        # for mode = "jwt": claims roles, types, exp, sub
#algorithms = ["RS256"]
#key_file = "jwt.pub"              # or jwks_url, or secret_file with HS256
#audience = "tidegate"             # absent: not checked
#issuer = "https://issuer.example" # absent: not checked
"""
