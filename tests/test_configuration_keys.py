"""Each key of a configuration, changed alone, changes what the parts of a gateway are told, and nothing else.

The whole gateway is put together twice with stand-ins for its parts, which note what they are given: for a base
configuration, and for one key changed in it. `KEYS` says of every key which places must have changed, and to what.
"""

import copy
import functools
import inspect
import random
import types
import typing
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec
import pytest
from plugins import EchoPlugin, install

from tidegate import app, live_parts, parts
from tidegate.config import Config, from_document
from tidegate.config.section import Section
from tidegate.core.topics import PatternSet
from tidegate.inbound import server
from tidegate.outbound.auth import opening as auth
from tidegate.outbound.backends import opening as backends
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.outbound.clock import SystemClock
from tidegate.outbound.store_sqlite import SqliteStore
from tidegate.plan import asking, changes, making, plan
from tidegate.reloading import Reloads
from tidegate.runtime.authentication import CurrentAuthenticator

PARTS: Final = {
    "Admissions": (live_parts, "Admissions"),
    "Gate": (live_parts, "Gate"),
    "Gateway": (parts, "Gateway"),
    "Metrics": (app, "PrometheusMetrics"),
    "Poller": (parts, "BackendPoller"),
    "Streams": (parts, "EventStreams"),
    "Supervisor": (live_parts, "Supervisor"),
    "WebSocket": (live_parts, "WebSocketServer"),
    "api": (parts, "http_api"),
    "bound": (app, "bound"),
    "serve": (server, "serve"),
    "store": (SqliteStore, "open"),
    "tls": (server.LoadedCertificate, "read"),
    "url": (app, "url_of"),
}
"""What `running` makes or calls, by the names that places begin with."""

KINDS: Final = {
    "Authenticator": [(auth, "OpenAuthenticator"), (auth, "TokenAuthenticator"), (auth, "JwtAuthenticator")],
    "Backend": [
        (backends, "JsonRpcBackend"),
        (backends, "HttpJsonBackend"),
        (backends, "RpcBackend"),
        (backends, "PluginBackend"),
    ],
    "keys": [(auth, "JwksKeys"), (auth, "secret_file"), (auth, "public_key_file")],
}
"""Parts of which there are several kinds; the place `kind` says which was chosen."""

BASE: Final[dict[str, Any]] = {
    "server": {"state_dir": "state", "tls_cert_file": "old-1", "tls_key_file": "old-2"},
    "backends": {
        "b": {"url": "http://b:1", "client_cert_file": "old-1", "client_key_file": "old-2"},
        "c": {"url": "http://c:1"},
    },
    "sources": {
        "s": {"backend": "b", "method": "m", "items": "/items", "key": "id"},
        "t": {"backend": "b", "method": "n"},
        "u": {"backend": "c", "method": "m"},
    },
    "auth": {"mode": "token", "tokens": [{"token": "of-the-first-bearer"}, {"token": "of-the-second-bearer"}]},
}
"""Everything is there twice where it can be: a change of the first must leave the second as it is."""

FIRST: Final = {"backends": "b", "sources": "s", "tokens": "0", "on_connect": "0"}
"""Which of several tables has the changed key: what ``*`` stands for below these."""

JWT: Final = {"auth.mode": "jwt", "auth.jwt.key_file": "old-1"}

HTTP: Final = {"backends.b.protocol": "http"}

USUAL_REQUEST: Final[dict[str, Any]] = {
    "verb": "GET",
    "headers": {},
    "body": None,
    "success_statuses": [],
    "reading": {},
}
"""How a source of an http backend is asked for if it says nothing about that."""
WEBSOCKET: Final = {"backends.b.url": "ws://b:1"}
LOGIN: Final = WEBSOCKET | {"backends.b.session.method": "login"}
HTTP_LOGIN: Final = {"backends.b.session.path": "login", "backends.b.session.keep": "cookies"}
ON_CONNECT: Final = WEBSOCKET | {"backends.b.session.on_connect": [{"method": "m"}]}

PLUGIN: Final = {"backends.b": {"protocol": "echo", "options": {"host": "old"}}}

GONE: Final = "(nothing is given there)"


class Wired(NamedTuple):
    """A new `value` for a key, and what it `reaches`: the places that change, with what is there then.

    `given` are keys that differ from `BASE` before and after; None takes one out.
    """

    value: Any
    reaches: Mapping[str, Any]
    given: Mapping[str, Any] = {}


def at(value: Any, *places: str, as_: Any = None, given: Mapping[str, Any] | None = None) -> Wired:
    """A key whose value, or what it comes `as_`, is at each of `places`."""
    return Wired(value, dict.fromkeys(places, value if as_ is None else as_), given or {})


def breaker(name: str, value: Any, *, given: Mapping[str, Any] | None = None) -> Wired:
    return at(value, f"Poller.plan.breaker.{name}", given=given)


KEYS: Final[dict[str, Wired]] = {
    "server.host": at("localhost", "bound.host", "Gate.bound_host"),
    "server.port": at(1234, "bound.port"),
    "server.state_dir": at("elsewhere", "store.directory"),
    "server.allowed_hosts": at(["h.example"], "Gate.hosts"),
    "server.allowed_origins": at(["https://o.example"], "Gate.origins"),
    "server.frame_ancestors": at(["https://o.example"], "api.options.frame_ancestors", as_=("https://o.example",)),
    "server.trusted_proxies": at(["10.0.0.0/8"], "Gate.trusted_proxies"),
    "server.root_path": at("/live", "api.options.root_path", "WebSocket.options.root_path"),
    "server.tls_cert_file": at("new", "tls.named.tls_cert_file"),
    "server.tls_key_file": at("new", "tls.named.tls_key_file"),
    "server.default_types": at(["s", "job.*"], "Gateway.options.default_types"),
    "server.heartbeat_interval_s": at(1.5, "Gateway.options.heartbeat_interval_s"),
    "server.drain_s": at(7.5, "Gateway.options.drain_s"),
    "server.drain_min_s": at(1.5, "Gateway.options.drain_min_s"),
    "server.max_clients": at(77, "Gateway.options.max_clients"),
    "server.allow_no_sources": at(True),
    "limits.message_bytes": at(777, "WebSocket.options.message_bytes"),
    "limits.publish_bytes": at(777, "api.options.publish_bytes", "serve.body_bytes"),
    "limits.retained_keys": at(77, "Gateway.options.retained_keys"),
    "limits.retained_bytes": at(777, "Gateway.options.retained_bytes"),
    "limits.publishes_per_s": at(7.5, "Gateway.options.publishes.per_s"),
    "limits.publishes_burst": at(77, "Gateway.options.publishes.burst"),
    "limits.event_bytes": at(
        777, "Gateway.options.event_bytes", "Poller.plan.event_bytes", "Poller 2.plan.event_bytes"
    ),
    "limits.messages_per_s": Wired(
        1000.0,
        {"Gateway.options.session_limits.messages_per_s": 1000.0, "WebSocket.options.frames.per_s": 10000.0},
    ),
    "limits.messages_burst": Wired(
        1000,
        {"Gateway.options.session_limits.messages_burst": 1000, "WebSocket.options.frames.burst": 10000},
    ),
    "limits.patterns": at(77, "Gateway.options.session_limits.patterns"),
    "limits.connects_per_s": at(7.5, "Gateway.options.connects.per_s"),
    "limits.connects_burst": at(77, "Gateway.options.connects.burst"),
    "limits.send_buffer_soft_bytes": at(777, "Streams.soft_bytes", "WebSocket.options.send_buffer_soft_bytes"),
    "limits.send_buffer_hard_bytes": at(
        777777, "Gateway.options.send_limits.hard_bytes", "WebSocket.options.send_buffer_hard_bytes"
    ),
    "limits.slow_grace_s": at(7.5, "Gateway.options.send_limits.grace_s", "serve.slow_grace_s"),
    "limits.handshake_s": at(7.5, "serve.handshake_s", "api.options.body_s"),
    "limits.rpc_error_interval_s": at(7.5, "Poller.plan.rpc_error_interval_s", "Poller 2.plan.rpc_error_interval_s"),
    "history.events": at(77, "Gateway.options.history_events"),
    "history.bytes": at(777, "Gateway.options.history_bytes"),
    "backends.*.url": at("http://elsewhere:1", "Backend.options.url"),
    "backends.*.socket": at("new", "Backend.options.socket"),
    "backends.*.tls_name": at("elsewhere", "Backend.options.tls_name", given={"backends.b.url": "https://here:1"}),
    "backends.*.proxy": at("http://p:1", "Backend.options.proxy"),
    "backends.*.protocol": Wired(
        "http",
        {
            "Backend.kind": "HttpJsonBackend",
            "Backend.version": GONE,
            "Poller.plan.sources.0.call.http": USUAL_REQUEST,
            "Poller.plan.sources.1.call.http": USUAL_REQUEST,
        },
    ),
    "backends.*.jsonrpc": at("1.0", "Backend.version"),
    "backends.*.session.method": at("log_in", "Backend.options.session.login.method", given=LOGIN),
    "backends.*.session.params": at(["k"], "Backend.options.session.login.params", as_='["k"]', given=LOGIN),
    "backends.*.session.url": at("elsewhere", "Backend.session.login.url", given=HTTP_LOGIN),
    "backends.*.session.path": at("other", "Backend.session.login.call.method", given=HTTP_LOGIN),
    "backends.*.session.form": Wired(
        {"user": "u"},
        {
            "Backend.session.login.form": GONE,
            "Backend.session.login.form.user": "u",
            "Backend.session.login.call.http.verb": "POST",
        },
        HTTP_LOGIN,
    ),
    "backends.*.session.body": Wired(
        {"of": 1},
        {"Backend.session.login.call.http.body": '{"of":1}', "Backend.session.login.call.http.verb": "POST"},
        HTTP_LOGIN,
    ),
    "backends.*.session.verb": at("PUT", "Backend.session.login.call.http.verb", given=HTTP_LOGIN),
    "backends.*.session.headers": Wired(
        {"Origin": "o"},
        {
            "Backend.session.login.call.http.headers": GONE,
            "Backend.session.login.call.http.headers.Origin": "o",
        },
        HTTP_LOGIN,
    ),
    "backends.*.session.keep": at(
        "cookies",
        "Backend.session.keeps_cookies",
        as_=True,
        given={"backends.b.session.path": "login", "backends.b.session.header": "X-A"},
    ),
    "backends.*.session.token": Wired(
        "/t", {"Backend.session.token": "/t", "Backend.session.sends_bearer": True}, HTTP_LOGIN
    ),
    "backends.*.session.header": at("X-A", "Backend.session.header", given=HTTP_LOGIN),
    "backends.*.session.on_status": at([409], "Backend.session.on_status", given=HTTP_LOGIN),
    "backends.*.session.on_code": at([7, "log in"], "Backend.options.session.on_code", given=WEBSOCKET),
    "backends.*.session.on_connect.*.method": at(
        "listen", "Backend.options.session.on_connect.0.method", given=ON_CONNECT
    ),
    "backends.*.session.on_connect.*.params": at(
        ["k"], "Backend.options.session.on_connect.0.params", as_='["k"]', given=ON_CONNECT
    ),
    "backends.*.timeout_s": Wired(
        7.5,
        {
            "Poller.plan.timeout_s": 7.5,
            "Poller.plan.sources.0.spec.timeout_s": 7.5,
            "Poller.plan.sources.1.spec.timeout_s": 7.5,
        },
    ),
    "backends.*.response_bytes": at(777, "Backend.options.response_bytes"),
    "backends.*.batch": at(True, "Poller.plan.batch"),
    "backends.*.connections": at(7, "Poller.plan.connections"),
    "backends.*.connection_max_s": at(7.5, "Backend.options.connection_max_s"),
    "backends.*.retry_s": at(7.5, "Poller.plan.retry_s"),
    "backends.*.retry_after_max_s": at(7.5, "Poller.plan.policy.retry_after_max_s"),
    "backends.*.headers": at({"X-Api-Key": "k"}, "Backend.options.headers"),
    "backends.*.secrets": at(
        {"k_file": "new", "v_env": "V"},
        "Backend.options.secrets",
        as_={
            "k": {"setting": "secrets.k_file", "file": "new", "variable": None, "is_token": False},
            "v": {"setting": "secrets.v_env", "file": None, "variable": "V", "is_token": False},
        },
    ),
    "backends.*.bearer_token_file": at("new", "Backend.options.bearer_token_file"),
    "backends.*.ca_file": at("new", "Backend.options.ca_file"),
    "backends.*.client_cert_file": at("new", "Backend.options.client_cert_file"),
    "backends.*.client_key_file": at("new", "Backend.options.client_key_file"),
    "backends.*.options": Wired({"host": "new"}, {"Backend.options.options.host": "new"}, PLUGIN),
    "backends.*.breaker.failure_threshold": breaker("failure_threshold", 7),
    "backends.*.breaker.open_s": breaker("open_s", 7.5),
    "backends.*.breaker.open_max_s": breaker("open_max_s", 77.5),
    "backends.*.breaker.half_open_successes": breaker("half_open_successes", 7),
    "backends.*.breaker.heal_s": breaker("heal_s", 7.5),
    "backends.*.breaker.slow_s": at(1.5, "Poller.plan.policy.slow_s"),
    "backends.*.breaker.ignored_codes": at([-7], "Poller.plan.policy.ignored_codes"),
    "backends.*.breaker.failure_rate": breaker("failure_rate", 0.75),
    "backends.*.breaker.rate_window_s": breaker("rate_window_s", 7.5),
    "backends.*.breaker.rate_minimum_calls": breaker("rate_minimum_calls", 7),
    "sources.*.method": at("other", "Poller.plan.sources.0.call.method"),
    "sources.*.path": at(
        "other", "Poller.plan.sources.0.call.method", given={**HTTP, "sources.s.method": None, "sources.s.path": "p"}
    ),
    "sources.*.body": Wired(
        {"of": [1.50]},
        {"Poller.plan.sources.0.call.http.body": '{"of":[1.5]}', "Poller.plan.sources.0.call.http.verb": "POST"},
        HTTP,
    ),
    "sources.*.verb": at("PUT", "Poller.plan.sources.0.call.http.verb", given=HTTP),
    "sources.*.headers": Wired(
        {"X-Api-Key": "k"},
        {"Poller.plan.sources.0.call.http.headers": GONE, "Poller.plan.sources.0.call.http.headers.X-Api-Key": "k"},
        HTTP,
    ),
    "sources.*.success_statuses": at([503], "Poller.plan.sources.0.call.http.success_statuses", given=HTTP),
    "sources.*.format": Wired(
        "csv",
        {
            "Poller.plan.sources.0.call.http.headers": GONE,
            "Poller.plan.sources.0.call.http.headers.Accept": asking.USUAL_ACCEPT["csv"],
            "Poller.plan.sources.0.call.http.reading": {"delimiter": ","},
        },
        HTTP,
    ),
    "sources.*.match": at(
        ["m"], "Poller.plan.sources.0.call.http.reading.match", given=HTTP | {"sources.s.format": "prometheus"}
    ),
    "sources.*.delimiter": at(
        ";", "Poller.plan.sources.0.call.http.reading.delimiter", given=HTTP | {"sources.s.format": "csv"}
    ),
    "sources.*.pattern": at(
        "(?P<b>x)",
        "Poller.plan.sources.0.call.http.reading.pattern",
        given=HTTP | {"sources.s.format": "text", "sources.s.pattern": "(?P<a>x)"},
    ),
    "sources.*.params": at({"of": [1]}, "Poller.plan.sources.0.call.params", as_='{"of":[1]}'),
    "sources.*.interval_s": Wired(
        7.5, {"Poller.plan.sources.0.spec.interval_s": 7.5, "Backend.options.idle_s": 7.5 + making.IDLE_MARGIN_S}
    ),
    "sources.*.timeout_s": at(7.5, "Poller.plan.sources.0.spec.timeout_s"),
    "sources.*.idle_interval_s": Wired(
        7.5, {"Poller.plan.sources.0.idle_interval_s": 7.5, "Backend.options.idle_s": 7.5 + making.IDLE_MARGIN_S}
    ),
    "sources.*.on_change": at(True, "Poller.plan.sources.0.spec.on_change"),
    "sources.*.select": at("/result", "Poller.plan.sources.0.shape.select"),
    "sources.*.items": at("/others", "Poller.plan.sources.0.shape.items", as_=["/others"]),
    "sources.*.key": at("name", "Poller.plan.sources.0.shape.key", as_=[["name"]]),
    "sources.*.fields": Wired(
        {"a": "/b"},
        {"Poller.plan.sources.0.shape.fields": GONE, "Poller.plan.sources.0.shape.fields.a": "/b"},
    ),
    "sources.*.ignore": at(["/t"], "Poller.plan.sources.0.shape.ignore"),
    "sources.*.missing": at("null", "Poller.plan.sources.0.shape.missing"),
    "sources.*.refresh_on": at(["changed"], "Poller.plan.sources.0.refresh_on", given=WEBSOCKET),
    "sources.*.stale_repeat": at(False, "Poller.plan.sources.0.spec.stale_repeat"),
    "sources.*.max_stale_s": at(7.5, "Poller.plan.sources.0.spec.max_stale_s"),
    "sources.*.breaker": Wired(
        "own", {"Poller.plan.sources.0.breaker": "b/s", "Metrics.names.breakers": ["b/s", "b", "c"]}
    ),
    "sources.*.backend": Wired(
        "c",
        {
            "Backend.options.idle_s": making.IDLE_MARGIN_S,
            "Metrics.names.breakers": ["c"],
            "Metrics.names.sources": [["s", "c"], ["u", "c"]],
            "Poller.plan.sources": [],
            "Poller 2.plan.sources.0.spec.type": "s",
            "Poller 2.plan.sources.0.spec.keyed": True,
            "Poller 2.plan.sources.0.shape.items": ["/items"],
            "Poller 2.plan.sources.0.shape.key": [["id"]],
            "Poller 2.plan.sources.1": {
                "spec": {
                    "type": "u",
                    "backend": "c",
                    "interval_s": 5.0,
                    "timeout_s": 2.0,
                    "max_stale_s": None,
                    "on_change": False,
                    "stale_repeat": True,
                    "keyed": False,
                },
                "call": {"method": "m", "params": "{}", "http": None},
                "breaker": "c",
                "shape": {
                    "select": "",
                    "items": None,
                    "key": [],
                    "fields": None,
                    "missing": "error",
                    "ignore": [],
                },
                "idle_interval_s": None,
                "refresh_on": [],
            },
        },
        given={"sources.t": None},
    ),
    "auth.mode": Wired(
        "jwt",
        {
            "Authenticator": {
                "kind": "JwtAuthenticator",
                "keys": "the keys",
                "options": {"algorithms": ["RS256"], "audience": None, "issuer": None},
            },
            "keys": {
                "kind": "public_key_file",
                "observe": "the Metrics.observe",
                "path": "old-1",
                "setting": "auth.jwt.key_file",
            },
            "api.options.auth": "jwt",
        },
        given={"auth.jwt.key_file": "old-1"},
    ),
    "auth.tokens.*.token": at("of-another-bearer", "Authenticator.tokens.0.token"),
    "auth.tokens.*.token_file": at(
        "new", "Authenticator.tokens.0.token.path", given={"auth.tokens.0": {"token_file": "old-1"}}
    ),
    "auth.tokens.*.roles": at(["admin", "publisher"], "Authenticator.tokens.0.grant.roles"),
    "auth.tokens.*.types": at(["job.*", "s"], "Authenticator.tokens.0.grant.allowed"),
    "auth.jwt.algorithms": at(["ES256", "RS256"], "Authenticator.options.algorithms", given=JWT),
    "auth.jwt.key_file": at("new", "keys.path", given=JWT),
    "auth.jwt.jwks_url": at(
        "https://new/jwks", "keys.url", given={"auth.mode": "jwt", "auth.jwt.jwks_url": "https://old/jwks"}
    ),
    "auth.jwt.secret_file": at(
        "new",
        "keys.path",
        given={"auth.mode": "jwt", "auth.jwt.secret_file": "old-1", "auth.jwt.algorithms": ["HS256"]},
    ),
    "auth.jwt.audience": at("us", "Authenticator.options.audience", given=JWT),
    "auth.jwt.issuer": at("them", "Authenticator.options.issuer", given=JWT),
}


def leaves(section: type[Section], path: str = "") -> Iterator[str]:
    """Every key of `section` that is no table of the configuration itself; ``*`` is any name or number."""
    for field in msgspec.structs.fields(section):
        inner, many = _section(field.type)
        key = f"{path}{field.encode_name}"
        if inner is None:
            yield key
        else:
            yield from leaves(inner, f"{key}.*." if many else f"{key}.")


def _section(kind: Any) -> tuple[type[Section] | None, bool]:
    """The table that a key of type `kind` holds, None if it holds a value; and whether it holds several."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind, False
    found = [inner for argument in typing.get_args(kind) if (inner := _section(argument)[0]) is not None]
    return (found[0], typing.get_origin(kind) in {dict, tuple}) if found else (None, False)


PLANNED: Final = {
    "Authenticator.": "authentication.",
    "Backend.kind": "backends.b.endpoint.protocol",
    "Backend.options.": "backends.b.endpoint.options.",
    "Backend.session.": "backends.b.endpoint.session.",
    "Backend.version": "backends.b.endpoint.version",
    "Gate.": "access.",
    "Gateway.options.": "gateway.",
    "Metrics.": "metrics.",
    "Poller.plan.sources.0.": "backends.b.polling.sources.s.",
    "Poller.plan.sources.1.": "backends.b.polling.sources.t.",
    "Poller.plan.": "backends.b.polling.",
    "Poller 2.plan.": "backends.c.polling.",
    "Streams.soft_bytes": "stream_soft_bytes",
    "WebSocket.options.": "websocket.",
    "api.options.": "api.",
    "asyncapi.": "api.",
    "bound.": "address.",
    "keys.": "authentication.keys.",
    "serve.": "server.",
    "store.directory": "store",
    "tls.named.": "tls.",
}
"""Where in a plan is what a part is told: what the places of `KEYS` begin with."""

REPLACED: Final = {
    "sources.*.backend": {
        "backends.b.endpoint.options.idle_s",
        "backends.b.polling.sources",
        "backends.b.polling.sources.s.",
        "backends.c.polling.sources",
        "backends.c.polling.sources.s.",
        "metrics.names.breakers",
        "metrics.names.sources",
    },
    "backends.*.protocol": {
        "backends.b.endpoint.protocol",
        *(f"backends.b.polling.sources.{source}.call.http{end}" for source in "st" for end in ("", ".")),
    },
    "sources.*.format": {
        "backends.b.polling.sources.s.call.http.headers",
        "backends.b.polling.sources.s.call.http.reading",
        "backends.b.polling.sources.s.call.http.reading.",
    },
    "backends.*.session.headers": {"backends.b.endpoint.session.login.call.http.headers"},
    "backends.*.session.form": {
        "backends.b.endpoint.session.login.form",
        "backends.b.endpoint.session.login.call.http.verb",
    },
    "sources.*.headers": {"backends.b.polling.sources.s.call.http.headers"},
    "sources.*.fields": {"backends.b.polling.sources.s.shape.fields"},
    "backends.*.options": {"backends.b.endpoint.options.options"},
    "auth.mode": {"api.auth", "authentication."},
}
"""What changes in a plan where a part is replaced by one of another kind, or a source moves: what ends in a dot, with
all that is in it."""


LEAVES: Final = list(leaves(Config))


def in_the_first(key: str) -> str:
    """The path of `key` in the first of several tables."""
    for tables, name in FIRST.items():
        key = key.replace(f"{tables}.*", f"{tables}.{name}")
    return key


def document(changes: Mapping[str, Any]) -> dict[str, Any]:
    """`BASE` with `changes`, by dotted paths; None takes a key out."""
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(BASE))
    for path, value in changes.items():
        *tables, key = [int(step) if step.isdigit() else step for step in path.split(".")]
        table: Any = made
        for step in tables:
            table = table[step] if isinstance(step, int) else table.setdefault(step, {})
        if value is None:
            del table[key]
        else:
            table[key] = copy.deepcopy(value)
    return made


class StandIn:
    """In the place of a part that is not made: whatever is done with it comes to itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> "StandIn":
        return StandIn(f"{self.name}.{name}")

    def __call__(self, *_: object, **__: object) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Notes:
    """What every part was given: plain values by dotted places, which begin with the name of the part."""

    def __init__(self, directory: Path) -> None:
        self.places: dict[str, object] = {}
        self._directory = directory
        self._made: list[str] = []

    def stand_in(self, part: str, original: Callable[..., Any], **more: object) -> Callable[..., StandIn]:
        """What notes the arguments of `original` instead of calling it, and `more`."""
        signature = inspect.signature(original)

        def made(*arguments: Any, **keywords: Any) -> StandIn:
            self._made.append(part)
            count = self._made.count(part)
            name = part if count == 1 else f"{part} {count}"
            given = signature.bind(*arguments, **keywords).arguments
            self.places |= self.flat(name, {**more, **given})
            return StandIn(f"the {name}")

        return made

    def flat(self, place: str, value: Any) -> dict[str, object]:
        match value:
            case msgspec.Struct():
                return self.flat(place, {name: getattr(value, name) for name in value.__struct_fields__})
            case Mapping() if value:
                flattened = [self.flat(f"{place}.{name}", inner) for name, inner in value.items()]
                return functools.reduce(lambda all_, some: all_ | some, flattened)
            case list() | tuple() if any(isinstance(inner, msgspec.Struct) for inner in value):
                return self.flat(place, dict(enumerate(value)))
            case _:
                return {place: self.plain(value)}

    def plain(self, value: Any) -> object:
        """`value` so that it can be compared and read. What is not known here might hide what a key has changed."""
        match value:
            case None | bool() | int() | float() | str():
                return value
            case list() | tuple():
                return [self.plain(inner) for inner in value]
            case Mapping() if not value:
                return {}
            case PatternSet():
                return value.sorted()
            case set() | frozenset():
                return sorted(value)
            case msgspec.Raw() | bytes():
                return bytes(value).decode()
            case Path():
                return str(value.relative_to(self._directory))
            case StandIn():
                return value.name
            case (
                random.Random()
                | SystemClock()
                | MemoryBus()
                | functools.partial()
                | Reloads()
                | CurrentAuthenticator()
                | EchoPlugin()
            ):
                return type(value).__name__
            case type() | types.FunctionType() | types.BuiltinFunctionType() | types.MethodType():
                return value.__name__
        raise TypeError(f"say in this test what a {type(value).__name__} holds: {value!r}")


async def told(document: Mapping[str, Any], directory: Path) -> Notes:
    """What every part is given for the configuration in `document`, whose files lie in `directory`."""
    config = from_document(document, environ={}, directory=directory)
    notes = Notes(directory)
    with pytest.MonkeyPatch.context() as patched:
        for part, (owner, name) in PARTS.items():
            patched.setattr(owner, name, notes.stand_in(part, getattr(owner, name)))
        for part, kinds in KINDS.items():
            for owner, name in kinds:
                patched.setattr(owner, name, notes.stand_in(part, getattr(owner, name), kind=name))
        async with app.running(config):
            pass
    return notes


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"echo": EchoPlugin})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files that configurations name are."""
    made = tmp_path_factory.mktemp("files")
    for name in ("old-1", "old-2", "new"):
        (made / name).touch()
    return made


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    places = [*before, *(place for place in after if place not in before)]
    return {p: after.get(p, GONE) for p in places if before.get(p, GONE) != after.get(p, GONE)}


@pytest.mark.parametrize("key", LEAVES)
async def test_a_key_that_is_changed_alone_changes_what_it_should(key: str, directory: Path) -> None:
    assert key in KEYS, f"say in KEYS of this test what {key} is wired to"
    value, reaches, given = KEYS[key]
    base = await told(document(given), directory)
    new = await told(document({**given, in_the_first(key): value}), directory)
    expected = dict(base.places)
    for place, there in reaches.items():
        for old in [each for each in expected if f"{each}.".startswith(f"{place}.")]:
            del expected[old]
        expected |= new.flat(place, there)
    assert changed(base.places, new.places) == changed(base.places, expected)
    assert len(changed(base.places, expected)) >= len(reaches), "a place that has the same value before and after"


@pytest.mark.parametrize("key", LEAVES)
def test_a_plan_changes_where_its_parts_are_told_something_else(key: str, directory: Path) -> None:
    value, reaches, given = KEYS[key]
    old, new = (
        plan(from_document(document(changed), environ={}, directory=directory))
        for changed in (given, {**given, in_the_first(key): value})
    )
    expected = REPLACED.get(key, set(map(planned, reaches)))
    wholes = [place for place in expected if place.endswith(".")]
    found = [change.path for change in changes(old, new)]
    assert {next((whole for whole in wholes if path.startswith(whole)), path) for path in found} == expected
    assert (old == new) == (not found)


def planned(place: str) -> str:
    start = next(start for start in PLANNED if place.startswith(start))
    return PLANNED[start] + place.removeprefix(start)


async def test_another_source_is_known_to_whoever_tells_sources_from_other_types(directory: Path) -> None:
    base = await told(BASE, directory)
    new = await told(document({"sources.v": {"backend": "c", "method": "m"}}), directory)
    reached = changed(base.places, new.places)
    assert {place: there for place, there in reached.items() if not place.startswith("Poller 2.plan.sources.1.")} == {
        "Gateway.options.source_types": ["s", "t", "u", "v"],
        "Gateway.options.default_types": ["s", "t", "u", "v", *making.BUILT_IN_DEFAULTS],
        "Metrics.names.sources": [["s", "b"], ["t", "b"], ["u", "c"], ["v", "c"]],
    }


def test_no_key_is_listed_that_is_none() -> None:
    assert not KEYS.keys() - set(LEAVES)
