"""The tables of the configuration that say what is polled, and how: backends, their breakers, and sources.

As in `model`, the docstrings document the keys.
"""

from typing import Any, Literal

import msgspec

from tidegate.backends.installed import BUILT_IN
from tidegate.config import formats
from tidegate.config.section import Section
from tidegate.core.masking import mask_headers, mask_options, mask_strings, mask_url
from tidegate.core.templates import TOKEN


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


class CallConfig(Section, msgspec.Struct, frozen=True, kw_only=True):
    """A call that is made when a connection begins.

    `method`: JSON-RPC method.
    `params`: Parameters of the call.
    """

    method: formats.NonEmpty
    params: formats.JsonParams = []

    def public(self) -> dict[str, object]:
        return super().public() | {"params": mask_strings(self.params)}


class SessionConfig(Section, msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway logs in, or what else an answer must be asked with.

    `url`: Where to log in: an address, or a path below that of the backend; default: the backend's `url`.
    `method`: JSON-RPC method of the login; for an http backend the same as `path`. On a persistent connection it is
        called once, before everything else.
    `path`: Path and query of a login that is a plain HTTP request.
    `params`: Parameters of the JSON-RPC login.
    `form`: Fields of the login, sent as a form.
    `body`: Body of the login: a table or list is sent as JSON, text as it is.
    `verb`: HTTP method of the login; default: POST with a form or a body, else GET.
    `headers`: Headers of the login; they take precedence over those of the backend.
    `keep`: "cookies" to send the backend's cookies back.
    `token`: JSON Pointer to a token in the answer to the login. `{token}` stands for it in texts of the backend and its
        sources; if none has it, the token is sent as Authorization: Bearer.
    `header`: Name of a header that a refusal says, and that requests must have.
    `on_status`: HTTP statuses that ask for a new login.
    `on_code`: JSON-RPC error codes, or texts in the message of an error, that ask for a new login.
    `on_connect`: Calls that follow the login on each persistent connection, such as subscriptions.
    """

    url: formats.LoginUrl | None = None
    method: formats.NonEmpty | None = None
    path: formats.NonEmpty | None = None
    params: formats.JsonParams = []
    form: dict[formats.NonEmpty, str] | None = None
    body: formats.Body | None = None
    verb: formats.Verb | None = None
    headers: dict[formats.OwnHeaderName, formats.HeaderValue] = {}
    keep: Literal["cookies"] | None = None
    token: formats.Pointer | None = None
    header: formats.HeaderName | None = None
    on_status: tuple[formats.Status, ...] = (401,)
    on_code: tuple[formats.ErrorMark, ...] = ()
    on_connect: tuple[CallConfig, ...] = ()

    @property
    def has_login(self) -> bool:
        """Whether a request is made to log in."""
        return any(each is not None for each in (self.url, self.method, self.path, self.form, self.body))

    def public(self) -> dict[str, object]:
        return super().public() | {
            "url": None if self.url is None else mask_url(self.url),
            "method": None if self.method is None else mask_url(self.method),
            "path": None if self.path is None else mask_url(self.path),
            "params": mask_strings(self.params),
            "form": mask_strings(self.form),
            "body": mask_strings(self.body),
            "headers": mask_headers(self.headers),
        }


class BackendConfig(Section, msgspec.Struct, frozen=True, kw_only=True):
    """A service that is polled.

    `url`: URL to which JSON-RPC requests are posted, or to which the methods of an http backend are relative. With
        ws://, wss://, tcp:// or unix:// JSON-RPC has one persistent connection. A plug-in has none.
    `socket`: Path of the Unix socket on which the backend listens. `url` goes on saying Host and path; with https and
        wss, TLS is spoken over the socket.
    `tls_name`: The name that the backend's certificate must be for, and that it is told (SNI), if that is not the host
        of `url`.
    `proxy`: HTTP proxy that connects to the backend, as http://HOST:PORT, with USER:PASSWORD@ if it asks. None is taken
        from the environment.
    `protocol`: "jsonrpc", "http" (a request for each source; the body is the result), or the name of a plug-in that is
        installed.
    `jsonrpc`: Version of JSON-RPC requests, "2.0" or "1.0". Answers may be of either.
    `timeout_s`: Seconds within which a call must be answered. A source may have its own.
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
    `secrets`: Where secrets are: NAME_file is a path, NAME_env a variable of the environment. `{NAME}` stands for the
        secret in headers, url, method and params. Read anew for each request.
    `bearer_token_file`: File with a token that is sent as Authorization: Bearer.
    `ca_file`: Certificates in PEM with which to verify the backend's certificate, instead of the system's.
    `client_cert_file`: Client certificate in PEM; requires `client_key_file`.
    `client_key_file`: Private key of the client certificate in PEM; requires `client_cert_file`.
    `options`: The options of a plug-in, which says what they are. `{NAME}` stands for a secret where it allows one.
    `session`: How the gateway logs in.
    `breaker`: Settings of the backend's circuit breaker, and of the separate breakers of its sources.
    """

    url: formats.BackendUrl | None = None
    socket: formats.SocketPath | None = None
    tls_name: formats.HostName | None = None
    proxy: formats.ProxyUrl | None = None
    protocol: formats.Protocol = "jsonrpc"
    jsonrpc: Literal["2.0", "1.0"] = "2.0"
    timeout_s: formats.Seconds = 2.0
    response_bytes: formats.Size = 8388608
    batch: bool = False
    connections: formats.Count = 16
    connection_max_s: formats.Seconds = 300.0
    retry_s: formats.RetrySeconds = 1.0
    retry_after_max_s: formats.SecondsOrZero = 300.0
    headers: dict[formats.HeaderName, formats.HeaderValue] = {}
    secrets: dict[formats.SecretKey, formats.SecretPlace] = {}
    bearer_token_file: formats.FilePath | None = None
    ca_file: formats.FilePath | None = None
    client_cert_file: formats.FilePath | None = None
    client_key_file: formats.FilePath | None = None
    options: dict[str, Any] = {}
    session: SessionConfig = SessionConfig()
    breaker: BreakerConfig = BreakerConfig()

    @property
    def address(self) -> str:
        """The `url`; "" for a plug-in, which has none."""
        return self.url or ""

    @property
    def is_plugin(self) -> bool:
        """Whether a plug-in makes this backend."""
        return self.protocol not in BUILT_IN

    @property
    def secret_names(self) -> frozenset[str]:
        """The names of the secrets."""
        return frozenset(key.rpartition("_")[0] for key in self.secrets)

    @property
    def filled_names(self) -> frozenset[str]:
        """The names that may stand in braces where a call is made: secrets, and the token of the login."""
        return self.secret_names | ({TOKEN} if self.session.token is not None else set())

    def public(self) -> dict[str, object]:
        return super().public() | {
            "url": None if self.url is None else mask_url(self.url),
            "headers": mask_headers(self.headers, shown_names=self.filled_names),
            "proxy": self.proxy and mask_url(self.proxy),
            "options": mask_options(self.options),
        }


class SourceConfig(Section, msgspec.Struct, frozen=True, kw_only=True):
    """One polled method of one backend. Its results become events of the type that is the table's name.

    `backend`: Name of a table under `[backends]`.
    `method`: JSON-RPC method; for an http backend, the same as `path`. Either this or `path`.
    `path`: Path and query under the URL of an http backend; "" is the URL itself.
    `params`: Parameters of the JSON-RPC call.
    `body`: Body of the request to an http backend: a table or list is sent as JSON, text as it is.
    `verb`: HTTP method; default: POST with a body, else GET. It must change nothing there: a request may be repeated.
    `headers`: Headers of this request; they take precedence over those of the backend.
    `success_statuses`: HTTP statuses whose body is an answer; default: 2xx.
    `format`: How the body of an http backend's answer is written: "json", "prometheus", "csv" or "text".
    `match`: Names of the Prometheus metrics that are wanted, such as node_load1; default: all.
    `delimiter`: The character between the values of CSV.
    `pattern`: A regular expression for format = "text". The data is an object with what its named groups matched.
    `interval_s`: Seconds from one poll to the next; the first comes within min(interval_s, 1 s).
    `timeout_s`: Seconds within which its calls must be answered; default: the backend's. In a batch, the longest of its
        sources' counts.
    `idle_interval_s`: Seconds between polls while nobody is subscribed; default: `interval_s`.
    `on_change`: Publish only when the data or its freshness changed.
    `select`: JSON Pointer to the part of the result to publish; "" is the whole result.
    `items`: JSON Pointer to a list or an object in the selected part, whose items become keyed events. For nested
        lists, a list of pointers, one for each level.
    `key`: What holds the key of an item: the name of a field, or a JSON Pointer, or a list of these, joined with "/".
        Without it, `items` is an object, and its names are the keys. If `items` is a list: a list with an entry for
        each level; an empty list as an entry means the names of an object. Requires `items`.
    `fields`: What the data, or each item, is made of: names with JSON Pointers to their values; default: all of it.
    `ignore`: JSON Pointers into the data, or into each item, whose changes are not worth an event; requires `items` or
        `on_change`.
    `missing`: What becomes of a value that is not there: "error", "null", or "leave_out" to leave the field out.
    `refresh_on`: Notifications that let it be polled at once: their methods, or what they are about.
    `stale_repeat`: Publish the stale event again at each due tick.
    `max_stale_s`: Age in seconds beyond which a stale value is no longer shown; default: no limit.
    `breaker`: "backend" to share the backend's circuit breaker, "own" for a separate one.
    """

    backend: formats.NonEmpty
    method: formats.NonEmpty | None = None
    path: formats.RequestPath | None = None
    params: formats.JsonParams = {}
    body: formats.Body | None = None
    verb: formats.Verb | None = None
    headers: dict[formats.OwnHeaderName, formats.HeaderValue] = {}
    success_statuses: tuple[formats.Status, ...] = ()
    format: Literal["json", "prometheus", "csv", "text"] = "json"
    match: tuple[formats.MetricName, ...] = ()
    delimiter: formats.Delimiter = ","
    pattern: formats.NonEmpty | None = None
    interval_s: formats.Seconds = 5.0
    timeout_s: formats.Seconds | None = None
    idle_interval_s: formats.Seconds | None = None
    on_change: bool = False
    select: formats.Pointer = ""
    items: formats.Items | None = None
    key: formats.Key | None = None
    fields: dict[formats.NonEmpty, formats.Pointer] | None = None
    ignore: tuple[formats.Pointer, ...] = ()
    missing: Literal["error", "null", "leave_out"] = "error"
    refresh_on: tuple[formats.NonEmpty, ...] = ()
    stale_repeat: bool = True
    max_stale_s: formats.Seconds | None = None
    breaker: Literal["backend", "own"] = "backend"

    def public(self) -> dict[str, object]:
        return super().public() | {
            "method": None if self.method is None else mask_url(self.method),
            "path": None if self.path is None else mask_url(self.path),
            "params": mask_strings(self.params),
            "body": mask_strings(self.body),
            "headers": mask_headers(self.headers),
        }
