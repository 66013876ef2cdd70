"""The settings of one persistent connection: where it leads, how messages are framed, and who logs in over it."""

from pathlib import Path
from typing import Literal

import msgspec
from yarl import URL

from tidegate.core.masking import Masked
from tidegate.errors import ConfigError, Problem
from tidegate.outbound.backends.rpc_messages import Version
from tidegate.outbound.http_client import HttpOptions
from tidegate.ports import Call

Framed = Literal["websocket", "stream"]

_AS_HTTP = {"ws": "http", "wss": "https", "tcp": "http"}


class RpcSession(Masked, msgspec.Struct, frozen=True, kw_only=True):
    """What is done once per connection.

    `login` is called first. Then come the calls of `on_connect`, such as subscriptions. A call that is refused on an
    older connection with one of `on_code`, an error code or a text in the message, is made again over a new one.
    """

    login: Call | None = None
    on_connect: tuple[Call, ...] = ()
    on_code: tuple[int | str, ...] = ()


class RpcOptions(Masked, msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The settings of JSON-RPC over a persistent connection.

    The URL of `http` begins with ``ws://``, ``wss://``, ``tcp://`` or ``unix://``. Headers are those of a WebSocket's
    handshake; how old a connection may become, and how long it may be idle, does not matter here.
    """

    http: HttpOptions
    version: Version = "2.0"
    session: RpcSession = RpcSession()

    @property
    def framed(self) -> Framed:
        return "websocket" if URL(self.http.url).scheme in {"ws", "wss"} else "stream"


def as_http(options: HttpOptions) -> HttpOptions:
    """Return `options` with the URL to which an HTTP client would connect in the same way. Raises `ConfigError`."""
    try:
        url = URL(options.url)
    except ValueError:
        raise ConfigError([_no_address("text that is no URL")]) from None
    if url.scheme == "unix":
        return msgspec.structs.replace(options, url="http://localhost", socket=_path(url))
    if url.scheme not in _AS_HTTP:
        raise ConfigError([_no_address(str(url.with_user(None)))])
    if url.scheme == "tcp" and url.explicit_port is None:
        raise ConfigError([Problem("url", "tcp://HOST:PORT", "no port")])
    return msgspec.structs.replace(options, url=str(url.with_scheme(_AS_HTTP[url.scheme])))


def _path(url: URL) -> Path:
    if url.raw_host or not url.path.startswith("/"):
        raise ConfigError(
            [Problem("url", "unix:///PATH, with three slashes", f"unix://{url.raw_host or ''}{url.path}")]
        )
    return Path(url.path)


def _no_address(got: str) -> Problem:
    return Problem("url", "an address that begins with ws://, wss://, tcp:// or unix://", got)
