"""Opens a backend of a plug-in for a test, without a gateway."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from tidegate.backends import BackendContext, BackendPlugin, Secret, installed
from tidegate.backends.options import converted
from tidegate.outbound.backends.plugins.backend import PluginOptions
from tidegate.outbound.clock import SystemClock
from tidegate.outbound.http_client import tls_context
from tidegate.ports import Backend, Clock


@asynccontextmanager
async def opened_plugin(
    plugin: BackendPlugin | type[BackendPlugin],
    options: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    ca_file: Path | None = None,
    response_bytes: int = 8_388_608,
) -> AsyncIterator[Backend]:
    """Open a backend of `plugin`, and close it when the context ends.

    `options` are as in ``[backends.NAME.options]``, and `secrets` the texts of what these name in braces. `ca_file` and
    `response_bytes` are the keys of the backend. Raises `ConfigError` if `plugin` is none, and
    `msgspec.ValidationError` for options that it does not take.
    """
    texts = secrets or {}
    found = installed.of(plugin, name="plugin")
    tls = PluginOptions(timeout_s=2.0, response_bytes=response_bytes, ca_file=ca_file)
    context = BackendContext(
        name="backend",
        timeout_s=tls.timeout_s,
        response_bytes=response_bytes,
        secrets={name: Secret(text) for name, text in texts.items()},
        clock=clock or SystemClock(),
        log=structlog.get_logger("tidegate.plugin"),
        tls=lambda: tls_context(tls),
    )
    given = converted(found.options, dict(options), secrets=texts, value_of=texts.get)
    backend: Backend = found.maker.open(given, context)
    try:
        yield backend
    finally:
        await backend.aclose()
