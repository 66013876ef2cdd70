"""The commands ``serve`` and ``demo``: run a gateway, and the reference engine if there is no configuration file."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import structlog

from tidegate.app import App, running
from tidegate.checks import startup_problems
from tidegate.cli import preflight
from tidegate.cli.engine_process import DEFAULT_PORT, HeldPort, free_port, supervised_engine
from tidegate.cli.environment import ENGINE_URL, gateway_environment
from tidegate.cli.following import Following, follow
from tidegate.config import Config, demo_config, load
from tidegate.errors import ConfigError, Problem, TidegateError
from tidegate.plan import plan

GC_THRESHOLDS = (10_000, 20, 50)
"""Garbage collection thresholds. Python's defaults, 700, 10, 10, cause a collection for every thirty connections."""

log = structlog.get_logger("tidegate")


class CannotListen(TidegateError):
    """The gateway or its engine cannot listen on an address."""


async def serve(
    stopped: asyncio.Event, *, config_file: Path | None, overrides: Mapping[str, object], engine_port: int | None
) -> int:
    """Run the gateway until `stopped` is set, then drain it. Raises `ConfigError` and `CannotListen`."""
    config, engine_port = configured(config_file, overrides, engine_port)
    _check_files(config, config_file)
    async with gateway(config, engine_port=engine_port) as app:
        tune_garbage_collection()
        log.info("listening", url=app.url)
        if engine_port is not None and engine_port != DEFAULT_PORT:
            found = {ENGINE_URL: _engine_url(engine_port)}
            log.info("the engine is not at its default port: set this variable so that commands find it", **found)
        await stopped.wait()
        await app.drain()
    log.info("stopped")
    return 0


async def demo(stopped: asyncio.Event, following: Following) -> int:
    """Run the gateway and the engine on free ports and follow the stream, until `stopped` or a limit of `following`.

    Nothing is kept on disk, so the demo does not disturb a gateway that is already running.
    """
    engine_port = free_port(preferred=DEFAULT_PORT)
    port = free_port(preferred=Config().server.port)
    overrides = {"server.port": port, "server.drain_s": 0.5, "server.drain_min_s": 0.0, "server.state_dir": ""}
    config = demo_config(_engine_url(engine_port), environ=gateway_environment(os.environ), overrides=overrides)
    async with gateway(config, engine_port=engine_port) as app:
        sys.stderr.write(f"Web page: {app.url}/   WebSocket: {app.url.replace('http', 'ws', 1)}/ws\n")
        code = await follow(stopped, following, url=app.url)
        await app.drain()
    return code


def configured(
    config_file: Path | None, overrides: Mapping[str, object], engine_port: int | None
) -> tuple[Config, int | None]:
    """Return the configuration to serve and the port for our own engine, which is None if a file names the backends.

    Raises `ConfigError`, and `CannotListen` if the given `engine_port` is in use.
    """
    environ = gateway_environment(os.environ)
    if config_file is not None:
        if engine_port is not None:
            expected = f"no configuration beside it, or --demo: {config_file} names the backends"
            raise ConfigError([Problem("--engine-port", expected, str(engine_port))])
        return load(config_file, environ=environ, overrides=overrides, needs_sources=True), None
    port = free_port(preferred=engine_port or DEFAULT_PORT)
    if engine_port and port != engine_port:
        raise CannotListen(f"port {engine_port} is taken: choose another for the engine with --engine-port")
    return demo_config(_engine_url(port), environ=environ, overrides=overrides), port


def _check_files(config: Config, config_file: Path | None) -> None:
    """Raise one `ConfigError` for all files that cannot be used. Log warnings about settings with a price."""
    wanted = plan(config)
    if problems := startup_problems(wanted):
        raise ConfigError(problems)
    for caution in preflight.cautions(config, wanted, config_file):
        log.warning(caution.found, setting=caution.setting, remedy=caution.remedy)


@asynccontextmanager
async def gateway(config: Config, *, engine_port: int | None) -> AsyncIterator[App]:
    """Run the gateway of `config`, with our own engine on `engine_port` unless that is None."""
    async with AsyncExitStack() as stack:
        engine = None
        if engine_port is not None:
            state_dir = Path(config.server.state_dir) / "engine" if config.server.state_dir else None
            port = stack.enter_context(closing(_held(engine_port)))
            engine = supervised_engine(port, state_dir=state_dir, notify_url=hint_url(config))
        try:
            app = await stack.enter_async_context(running(config, beside=engine))
        except OSError as error:
            address = f"{config.server.host}, port {config.server.port}"
            raise CannotListen(f"cannot listen on {address}: {error.strerror or error}") from error
        yield app


def tune_garbage_collection() -> None:
    """Exclude all current objects from garbage collection, and collect rarely.

    Connections and events create no reference cycles (tests check this), so a collection finds little. But each one
    pauses the whole process, for longer the more clients there are. `docs/design/performance.md` has the numbers.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def hint_url(config: Config) -> str | None:
    """Return the URL to which our own engine posts its hints.

    None if posting would need a token or a certificate, or if the port is not known beforehand.
    """
    server = config.server
    if config.auth.mode != "none" or server.tls_cert_file is not None or server.port == 0:
        return None
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}/api/v1/backends/engine/poll"


def _held(port: int) -> HeldPort:
    try:
        return HeldPort(port)
    except OSError as error:
        remedy = "run the command again, and it looks for a free one"
        raise CannotListen(f"port {port}, which was free for the engine a moment ago, is taken: {remedy}") from error


def _engine_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/rpc"
