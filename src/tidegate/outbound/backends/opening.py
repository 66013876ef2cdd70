"""Makes a backend from what the plan says about it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidegate.backends import installed
from tidegate.errors import ConfigError
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend, RpcBackend, RpcOptions
from tidegate.outbound.backends.http_backend import HttpBackend
from tidegate.outbound.backends.plugins.backend import PluginBackend, PluginOptions
from tidegate.outbound.backends.rpc_messages import Version
from tidegate.outbound.backends.secrets import CredentialsReader, places
from tidegate.outbound.backends.sessions.options import HttpSession
from tidegate.outbound.http_client import tls_context
from tidegate.ports import Backend, Clock
from tidegate.runtime.exchange import close
from tidegate.secret_place import SecretPlace


class BackendEndpoint(msgspec.Struct, frozen=True):
    """How to connect to the backend `name`: its protocol, and the options of the connections or of the plug-in.

    `version` is that of JSON-RPC requests over HTTP, and `session` one over HTTP. `RpcOptions` have their own.
    """

    name: str
    protocol: str
    options: HttpOptions | RpcOptions | PluginOptions
    version: Version = "2.0"
    session: HttpSession | None = None

    @property
    def http(self) -> HttpOptions | None:
        """How its server is reached, and with which credentials; None if a plug-in knows that."""
        match self.options:
            case RpcOptions(http=http):
                return http
            case HttpOptions():
                return self.options
        return None

    @property
    def places(self) -> Mapping[str, SecretPlace]:
        """Where its secrets are."""
        match self.options:
            case PluginOptions(secrets=secrets):
                return secrets
            case RpcOptions(http=http) | (HttpOptions() as http):
                return places(http)

    @property
    def certificates(self) -> Mapping[str, Path]:
        """The files that are read when it is made, by their settings."""
        options = self.options if self.http is None else self.http
        named = {key: getattr(options, key) for key in ("ca_file", "client_cert_file", "client_key_file")}
        return {f"backends.{self.name}.{key}": path for key, path in named.items() if path is not None}

    @property
    def service(self) -> "BackendEndpoint":
        """What says who answers, and how. Two with the same one differ only in how connections are used."""
        session = self.session and msgspec.structs.replace(self.session, sends_bearer=False)
        alike = _with_options(self, idle_s=0.0, connection_max_s=0.0, response_bytes=0, timeout_s=0.0)
        return msgspec.structs.replace(alike, session=session)

    def is_served_by_session_of(self, other: "BackendEndpoint") -> bool:
        """Whether what was made of `other` needs not be made anew: only the time that connections are idle differs."""
        return _with_options(self, idle_s=0.0) == _with_options(other, idle_s=0.0)


def _with_options(endpoint: BackendEndpoint, **given: float) -> BackendEndpoint:
    options: Any = endpoint.options
    if isinstance(options, RpcOptions):
        options = msgspec.structs.replace(options, http=_with(options.http, given))
    return msgspec.structs.replace(endpoint, options=_with(options, given))


_Options = TypeVar("_Options", bound=msgspec.Struct)


def _with(options: _Options, given: Mapping[str, float]) -> _Options:
    """Return `options` with those of the `given` values that they have."""
    fields = options.__struct_fields__
    return msgspec.structs.replace(options, **{name: value for name, value in given.items() if name in fields})


@asynccontextmanager
async def opened(endpoint: BackendEndpoint, clock: Clock) -> AsyncIterator[Backend]:
    """Yield the backend, and close its connections when the context ends. Raises as `made` does."""
    if isinstance(endpoint.options, PluginOptions):
        backend = made(endpoint, clock)  # a plug-in may need the event loop
    else:
        backend = await asyncio.to_thread(made, endpoint, clock)  # reads files: loading certificates takes long
    try:
        yield backend
    finally:
        await close(backend, endpoint.name)


def made(endpoint: BackendEndpoint, clock: Clock) -> Backend:
    """Make the backend; the caller closes it. Reads files. Raises `ConfigError`, which names the setting at fault."""
    with _named(endpoint):
        if isinstance(endpoint.options, PluginOptions):
            plugin, tls = installed.plugin(endpoint.protocol), partial(tls_context, endpoint.options)
            return PluginBackend(endpoint.name, plugin, endpoint.options, clock=clock, tls=tls)
        return _built_in(endpoint, endpoint.options)


def keep_idle(backend: Backend, endpoint: BackendEndpoint) -> None:
    """Tell `backend` for how long `endpoint` says that idle connections are kept."""
    if isinstance(backend, HttpBackend) and isinstance(endpoint.options, HttpOptions):
        backend.keep_idle(endpoint.options.idle_s)


def examine(endpoint: BackendEndpoint) -> None:
    """Raise `ConfigError` for what `made` would refuse. Reads files, but lets no plug-in open a backend."""
    with _named(endpoint):
        if not isinstance(endpoint.options, PluginOptions):
            _built_in(endpoint, endpoint.options)
            return
        installed.plugin(endpoint.protocol)
        tls_context(endpoint.options)


def _built_in(endpoint: BackendEndpoint, options: HttpOptions | RpcOptions) -> Backend:
    if isinstance(options, RpcOptions):
        return RpcBackend(options, CredentialsReader(options.http).read)
    if endpoint.protocol == "jsonrpc":
        return JsonRpcBackend(options, version=endpoint.version, session=endpoint.session)
    return HttpJsonBackend(options, session=endpoint.session)


@contextmanager
def _named(endpoint: BackendEndpoint) -> Iterator[None]:
    """Put the name of the backend in front of the settings in a `ConfigError`."""
    try:
        yield
    except ConfigError as error:
        settings = f"backends.{endpoint.name}"
        problems = [msgspec.structs.replace(each, path=f"{settings}.{each.path}") for each in error.problems]
        raise ConfigError(problems) from error
