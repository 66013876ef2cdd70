"""Makes a backend from what the plan says about it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from tidegate.errors import ConfigError
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend, RpcBackend, RpcOptions
from tidegate.outbound.backends.secrets import CredentialsReader
from tidegate.ports import Backend
from tidegate.runtime.exchange import close


class BackendEndpoint(msgspec.Struct, frozen=True):
    """How to connect to the backend `name`: its protocol, and the options of the connections under it."""

    name: str
    protocol: Literal["jsonrpc", "http"]
    options: HttpOptions | RpcOptions

    @property
    def http(self) -> HttpOptions:
        """How its server is reached, and with which credentials."""
        return self.options.http if isinstance(self.options, RpcOptions) else self.options


@asynccontextmanager
async def opened(endpoint: BackendEndpoint) -> AsyncIterator[Backend]:
    """Yield the backend, and close its connections when the context ends. Raises as `made` does."""
    backend = made(endpoint)
    try:
        yield backend
    finally:
        await close(backend, endpoint.name)


def made(endpoint: BackendEndpoint) -> Backend:
    """Make the backend; the caller closes it. Reads files. Raises `ConfigError`, which names the setting at fault."""
    try:
        match endpoint.protocol, endpoint.options:
            case _, RpcOptions() as options:
                return RpcBackend(options, CredentialsReader(options.http).read)
            case "jsonrpc", HttpOptions() as options:
                return JsonRpcBackend(options)
            case "http", HttpOptions() as options:
                return HttpJsonBackend(options)
    except ConfigError as error:
        settings = f"backends.{endpoint.name}"
        problems = [msgspec.structs.replace(each, path=f"{settings}.{each.path}") for each in error.problems]
        raise ConfigError(problems) from error
