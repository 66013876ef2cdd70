"""Which keys go with which kind of address: HTTP requests, or one persistent connection.

A key that would have no effect is refused: whoever wrote it expects one.
"""

from collections.abc import Iterator

import msgspec

from tidegate.config.backends import BackendConfig, SourceConfig
from tidegate.config.reader import Mistake, quoted

_WEB_SOCKETS = ("ws", "wss")
_STREAMS = ("tcp", "unix")
_OF_HTTP = ("headers", "bearer_token_file", "ca_file", "client_cert_file", "client_key_file")

_REASONS = {
    "connection_max_s": "is kept until it is lost",
    "proxy": "leads through none",
    "socket": "leads where url says",
}


def of_connection(backend: BackendConfig) -> Iterator[Mistake]:
    """Yield what does not go with the scheme of the backend's `url`."""
    scheme = backend.address.partition("://")[0]
    if not is_persistent(backend):
        if backend.session.on_connect:
            expected = "none, because HTTP has no connection that lasts (use ws://, wss://, tcp:// or unix://)"
            yield Mistake(("session", "on_connect"), expected, "some")
        return
    if backend.protocol == "http":
        yield Mistake(("protocol",), f'"jsonrpc", because url begins with {scheme}://', '"http"')
    useless = ["connection_max_s", "proxy", *(("socket", *_OF_HTTP) if scheme in _STREAMS else ())]
    for key in useless:
        if getattr(backend, key) != _default(key):
            why = _REASONS.get(key, "has neither headers nor TLS")
            yield Mistake((key,), f"no such key, because a connection to {scheme}:// {why}", "one")


def of_refresh(source: SourceConfig, backend: BackendConfig) -> Iterator[Mistake]:
    """Yield what is wrong with `refresh_on` of a source of `backend`."""
    if source.refresh_on and not (is_persistent(backend) or backend.is_plugin):
        expected = f"none, because backend {quoted(source.backend)} sends no notifications over HTTP"
        yield Mistake(("refresh_on",), expected, "some")


def is_persistent(backend: BackendConfig) -> bool:
    """Return whether all calls of `backend` are made over one connection that lasts."""
    return backend.address.partition("://")[0] in {*_WEB_SOCKETS, *_STREAMS}


def _default(key: str) -> object:
    [field] = [field for field in msgspec.structs.fields(BackendConfig) if field.name == key]
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
