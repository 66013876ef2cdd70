"""From what a plan says of reaching a backend to the backend."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from tidegate.errors import ConfigError
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.ports import Backend
from tidegate.runtime.exchange import close


class Reached(msgspec.Struct, frozen=True):
    """How the backend `name` is reached: by which protocol, and how that is carried."""

    name: str
    protocol: Literal["jsonrpc", "http"]
    options: HttpOptions


@asynccontextmanager
async def opened(reached: Reached) -> AsyncIterator[Backend]:
    """The backend; its connections are closed with the context. Raises as `made`."""
    backend = made(reached)
    try:
        yield backend
    finally:
        await close(backend, reached.name)


def made(reached: Reached) -> Backend:
    """The backend, for its maker to close. Reads files; raises `ConfigError` naming the setting at fault."""
    try:
        match reached.protocol:
            case "jsonrpc":
                return JsonRpcBackend(reached.options)
            case "http":
                return HttpJsonBackend(reached.options)
    except ConfigError as error:
        settings = f"backends.{reached.name}"
        problems = [msgspec.structs.replace(each, path=f"{settings}.{each.path}") for each in error.problems]
        raise ConfigError(problems) from error
