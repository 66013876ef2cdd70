"""Ready-made configurations: `EXAMPLE` for ``config init``, `demo_config` for ``serve`` without a file."""

from collections.abc import Mapping

from tidegate.config.loading import from_document
from tidegate.config.model import Config


def demo_config(
    engine_url: str, *, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Config:
    """Return the configuration of ``serve`` without a file: status and compression jobs of the engine at `engine_url`.

    `environ` and `overrides` take precedence, as in `load`. Raises `ConfigError`.
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
# Tidegate. Lines that start with "#" and a letter or bracket are settings with their defaults, or examples.

[backends.engine]                  # a service that answers JSON-RPC 2.0 over HTTP POST
url = "http://127.0.0.1:12081/rpc"

[sources."system.status"]          # an event type, and where its events come from
backend = "engine"
method = "system.status"
interval_s = 5.0

# More about that source:
#params = {}
#timeout_s = 10.0                  # for a slow call; default: the backend's
#idle_interval_s = 60.0            # slower polling while nobody is subscribed; default: as interval_s
#on_change = false                 # publish only when the data or its freshness changed
#select = ""                       # JSON Pointer to the part of the result to publish; "" is the whole result
#missing = "error"                 # or "null", or "leave_out": what becomes of a value that is not there
#ignore = []                       # with on_change: JSON Pointers whose changes are not worth an event
#refresh_on = []                   # notifications of the server after which it is polled at once
#stale_repeat = true               # while stale, publish the stale event again at each due tick
#max_stale_s = 3600.0              # values older than this are no longer shown; default: no limit
#breaker = "backend"               # share the backend's circuit breaker; "own": a separate one for this source

# A list in the result becomes one event per new or changed item:
#[sources."agent.status"]
#backend = "engine"
#method = "agents.list"
#items = "/agents"                 # JSON Pointer to the list; "" for the result itself
#key = "id"                        # the field that names an item; without it, the names of an object do
#interval_s = 2.0
#[sources."agent.status".fields]   # what the events contain, if not all of an item
#id = "/id"

# A source of a backend with protocol "http":
#[sources."torrent.state"]
#backend = "web"
#path = "rpc?verbose=1"            # a path under the backend's url
#body = { method = "torrent-get" } # a table or list is sent as JSON, text as it is
#verb = "POST"                     # default: POST with a body, else GET
#headers = {}
#success_statuses = [200, 503]     # default: 2xx

# Answers that are no JSON. Everything else works on the JSON that is made of them.
#[sources."machine.load"]
#backend = "web"
#path = "metrics"
#format = "prometheus"             # a list of {name, labels, value}
#match = ["node_load1"]            # names of metrics; default: all
#[sources."proxy.server"]
#backend = "web"
#path = "stats;csv"
#format = "csv"                    # a list of objects; their names are in the first line
#delimiter = ","
#[sources."web.connections"]
#backend = "web"
#path = "nginx_status"
#format = "text"                   # an object, with what the named groups of the pattern match
#pattern = 'Active connections: (?P<active>[0-9]+)'

#[backends.web]
#url = "http://127.0.0.1:9091"
#protocol = "http"                 # HTTP requests, whose answers are data

# A backend with all its settings.
#[backends.other]
#url = "https://status.example/rpc"
#tls_name = "status.example"       # the name its certificate must be for; default: the host in `url`
#proxy = "http://proxy.example:3128"  # HTTP proxy; none is taken from the environment
#protocol = "jsonrpc"
#jsonrpc = "2.0"                   # version of requests; "1.0" for servers that want it
#timeout_s = 2.0
#response_bytes = 8388608
#batch = false                     # poll all due sources in one JSON-RPC batch, which many servers don't support
#connections = 16                  # concurrent calls; 1 for a device that serves one connection at a time
#connection_max_s = 300.0          # replace older connections after their call, to follow changes in DNS
#retry_s = 1.0                     # repeat a failed poll after this, doubled with each failure; 0 waits for the next
#retry_after_max_s = 300.0         # limit on the Retry-After of a 429 or 503
#headers = {}
#secrets = {}                      # { key_file = "key" }: then {key} is filled in headers, url, method and params
#bearer_token_file = "bearer"      # relative paths are relative to this file
#ca_file = "ca.pem"
#client_cert_file = "client.pem"
#client_key_file = "client.key"
#options = {}                      # for a plug-in, whose name is the protocol: it says what they are

# A backend that listens on a Unix socket; `url` goes on saying Host and path:
#[backends.local]
#url = "http://localhost/v1"
#socket = "/run/service.sock"      # relative paths are relative to this file

#[backends.other.session]          # a login; with ws://, wss://, tcp:// and unix://, once per connection
#url = "https://id.example/token"  # where to log in; default: the backend's url
#method = "auth.login"             # of a JSON-RPC login; for a plain HTTP request, path = "login"
#params = []
#form = { user = "u", password = "{pw}" }  # or body
#verb = "POST"
#headers = {}
#keep = "cookies"
#token = "/access_token"           # JSON Pointer into the answer; sent as Authorization: Bearer, or where {token} is
#header = "X-CSRF-Token"           # a header that a refusal says
#on_status = [401]                 # statuses that ask for a new login
#on_code = []                      # error codes, or texts in an error's message, that ask for a new login
#on_connect = []                   # calls after the login, such as { method = "subscribe", params = ["jobs"] }

#[backends.other.breaker]
#failure_threshold = 5             # consecutive failures
#open_s = 2.0                      # first open period; doubles with each failed probe, with jitter in the upper half
#open_max_s = 15.0                 # longest open period; default: 15, or a tenth of the shortest interval if more
#half_open_successes = 1           # consecutive probes that must succeed to close
#heal_s = 30.0                     # after being closed this long, the next open period starts from open_s again
#slow_s = 1.5                      # slower answers count as failures; default: off
#ignored_codes = []                # JSON-RPC error codes that do not count as failures
#failure_rate = 0.5                # also open at this share of failures within the window; default: off
#rate_window_s = 60.0
#rate_minimum_calls = 10

#[server]
#host = "127.0.0.1"                # an address other than loopback needs [auth]
#port = 12080
#state_dir = ""                    # "": nothing on disk; default: $STATE_DIRECTORY, else the XDG state home
#allowed_hosts = []                # besides localhost, 127.0.0.1, [::1] and the gateway's own addresses
#allowed_origins = []              # besides the same host; "null" allows file:// pages
#frame_ancestors = []              # origins of the sites that may show /embed in a frame
#trusted_proxies = []              # addresses whose X-Forwarded-For and X-Forwarded-Proto are trusted
#root_path = ""                    # prefix under which a proxy serves the gateway
#tls_cert_file = "server.pem"
#tls_key_file = "server.key"
#default_types = []                # patterns for clients that name none; empty: all sources and built-in types
#heartbeat_interval_s = 10.0
#drain_s = 5.0                     # longest drain at shutdown
#drain_min_s = 0.0                 # shortest drain, even without clients: set it to a load balancer's probe period
#max_clients = 10000
#allow_no_sources = false          # true: a gateway for publishers only, with no [sources]

#[limits]
#message_bytes = 65536             # inbound WebSocket message
#publish_bytes = 1048576           # one POST
#retained_keys = 100000            # retained published values
#retained_bytes = 268435456        # their total size
#publishes_per_s = 2000.0          # events of one publisher
#publishes_burst = 5000            # also the longest array in one POST
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
#types = ["system.*"]              # default: everything

#[auth.jwt]                        # for mode = "jwt": claims roles, types, exp, sub
#algorithms = ["RS256"]
#key_file = "jwt.pub"              # or jwks_url, or secret_file with HS256
#audience = "tidegate"             # default: not checked
#issuer = "https://issuer.example" # default: not checked
"""
