"""``serve`` and ``demo``: a gateway, where need be with the reference engine beside it."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import structlog

from tidegate.app import App, running
from tidegate.cli import preflight
from tidegate.cli.engine_process import DEFAULT_PORT, HeldPort, free_port, supervised_engine
from tidegate.cli.environment import ENGINE_URL, gateway_environment
from tidegate.cli.following import Following, follow
from tidegate.config import Config, demo_config, load
from tidegate.errors import ConfigError, Problem, TidegateError
from tidegate.plan import plan

GC_THRESHOLDS = (10_000, 20, 50)
"""Python's own are 700, 10, 10: a collection for every thirty connections."""

log = structlog.get_logger("tidegate")


class CannotListen(TidegateError):
    """An address that the gateway or its engine cannot have."""


async def serve(
    stopped: asyncio.Event, *, config_file: Path | None, overrides: Mapping[str, object], engine_port: int | None
) -> int:
    """Run the gateway until `stopped` is set, then let its clients go. Raises `ConfigError`, `CannotListen`."""
    config, engine_port = configured(config_file, overrides, engine_port)
    _check_files(config, config_file)
    async with gateway(config, engine_port=engine_port) as app:
        spare_the_collector()
        log.info("listening", url=app.url)
        if engine_port is not None and engine_port != DEFAULT_PORT:
            found = {ENGINE_URL: _engine_url(engine_port)}
            log.info("the engine is not at its usual port: with this in their environment commands find it", **found)
        await stopped.wait()
        await app.drain()
    log.info("stopped")
    return 0


async def demo(stopped: asyncio.Event, following: Following) -> int:
    """Run the gateway with the engine on free ports and follow it, until `stopped` is set or nothing is left to do.

    It keeps nothing on disk, so that it gets in the way of no gateway that runs already.
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
    """The configuration to serve, and the port for an engine of our own, None where a file names the backends.

    Raises `ConfigError`, and `CannotListen` for an engine port that is asked for but taken.
    """
    environ = gateway_environment(os.environ)
    if config_file is not None:
        if engine_port is not None:
            expected = f"no configuration beside it, or --demo: {config_file} names the backends"
            raise ConfigError([Problem("--engine-port", expected, str(engine_port))])
        return load(config_file, environ=environ, overrides=overrides), None
    port = free_port(preferred=engine_port or DEFAULT_PORT)
    if engine_port and port != engine_port:
        raise _taken(engine_port)
    return demo_config(_engine_url(port), environ=environ, overrides=overrides), port


def _check_files(config: Config, config_file: Path | None) -> None:
    """Raise `ConfigError` for all files at once that cannot be used; log what others may read or guess."""
    if problems := preflight.startup_problems(plan(config)):
        raise ConfigError(problems)
    for caution in preflight.cautions(config, config_file):
        log.warning(caution.found, setting=caution.setting, remedy=caution.remedy)


@asynccontextmanager
async def gateway(config: Config, *, engine_port: int | None) -> AsyncIterator[App]:
    """The gateway of `config`, beside an engine of our own on `engine_port` unless that is None."""
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


def spare_the_collector() -> None:
    """Leave what there is at start out of every collection, and collect seldom.

    Connections and events leave no cycles (tests hold them to it), so there is little to find; but each search stops
    everybody, the longer the more clients there are. `docs/design/performance.md` has the pauses.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def hint_url(config: Config) -> str | None:
    """Where an engine of our own posts its hints; None where it would need a token, a certificate or a known port."""
    server = config.server
    if config.auth.mode != "none" or server.tls_cert_file is not None or server.port == 0:
        return None
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}/api/v1/backends/engine/poll"


def _held(port: int) -> HeldPort:
    try:
        return HeldPort(port)
    except OSError as error:  # since it was looked at
        raise _taken(port) from error


def _taken(port: int) -> CannotListen:
    return CannotListen(f"port {port} is taken: choose another for the engine with --engine-port")


def _engine_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/rpc"
