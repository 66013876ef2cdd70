"""The commands ``serve`` and ``demo``: run a gateway, and the reference engine if there is no configuration file."""

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    nullcontext,
)
from pathlib import Path

import msgspec
import structlog

from tidegate.app import App, running
from tidegate.checks import startup_problems
from tidegate.cli import preflight
from tidegate.cli.engine_process import DEFAULT_PORT, HeldPort, free_port, supervised_engine
from tidegate.cli.environment import ENGINE_URL, gateway_environment
from tidegate.cli.following import Following, follow
from tidegate.cli.hangups import reloading_on_hangup
from tidegate.cli.reload_record import recording_reloads
from tidegate.cli.run_record import last_run, recorded_run
from tidegate.cli.signals import Stop
from tidegate.cli.start_line import start_fields
from tidegate.config import Config, demo_config, load
from tidegate.config.fingerprint import config_hash
from tidegate.errors import ConfigError, Problem, TidegateError
from tidegate.plan import plan

GC_THRESHOLDS = (10_000, 20, 50)
"""Garbage collection thresholds. Python's defaults, 700, 10, 10, cause a collection for every thirty connections."""

log = structlog.get_logger("tidegate")


class CannotListen(TidegateError):
    """The gateway or its engine cannot listen on an address."""


class ConfigOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a configuration comes from: a file, if there is one, the environment, and options of the command line."""

    file: Path | None
    overrides: Mapping[str, object] = {}

    def read(self) -> Config:
        """Read all of it. A file without a source is refused. Blocks. Raises `ConfigError`."""
        environ = gateway_environment(os.environ)
        return load(self.file, environ=environ, overrides=self.overrides, needs_sources=self.file is not None)


async def serve(
    stopped: Stop, *, config_file: Path | None, overrides: Mapping[str, object], engine_port: int | None
) -> int:
    """Run the gateway until `stopped` is set, then drain it. A SIGHUP has it read its configuration again.

    Raises `ConfigError` and `CannotListen`.
    """
    began = time.monotonic()
    origin = ConfigOrigin(file=config_file, overrides=overrides)
    try:
        await _served(stopped, origin, engine_port)
    except (TidegateError, OSError) as error:
        if not sys.stderr.isatty():  # where the command line says it too, and people read it
            _tell_failure(error)
        raise
    log.info("stopped", why=stopped.why, after_s=round(time.monotonic() - began, 3))
    return 0


async def _served(stopped: Stop, origin: ConfigOrigin, engine_port: int | None) -> None:
    config, engine_port = configured(origin.file, origin.overrides, engine_port)
    _check_files(config, origin.file)
    directory = Path(config.server.state_dir) if config.server.state_dir else None
    last = None if directory is None else last_run(directory)
    hashed = config_hash(config)
    run = recorded_run(directory, config=origin.file, config_hash=hashed, overrides=origin.overrides)
    reread = None if origin.file is None else msgspec.structs.replace(origin, file=origin.file.absolute()).read
    async with (
        gateway(config, engine_port=engine_port, run=run, reread=reread) as app,
        recording_reloads(directory, app.reloads) as app.reloads.on_attempt,
    ):
        tune_garbage_collection()
        epoch = app.gateway.position.epoch
        said = start_fields(config, origin.file, last, config_hash=hashed, epoch=epoch)
        log.info("listening", url=app.url, **said)
        if engine_port is not None and engine_port != DEFAULT_PORT:
            found = {ENGINE_URL: _engine_url(engine_port)}
            log.info("the engine is not at its default port: set this variable so that commands find it", **found)
        async with reloading_on_hangup(app.reloads.reload, stopped):
            await stopped.wait()
            await app.drain()


def _tell_failure(error: Exception) -> None:
    """Log why the gateway did not start, or ended."""
    if isinstance(error, ConfigError):
        problems = [msgspec.structs.asdict(problem) for problem in error.problems]
        log.error("failed", error="the configuration is not usable", problems=problems)
    else:
        log.error("failed", error=str(error))


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
    if config_file is not None:
        if engine_port is not None:
            expected = f"no configuration beside it, or --demo: {config_file} names the backends"
            raise ConfigError([Problem("--engine-port", expected, str(engine_port))])
        return ConfigOrigin(file=config_file, overrides=overrides).read(), None
    port = free_port(preferred=engine_port or DEFAULT_PORT)
    if engine_port and port != engine_port:
        raise CannotListen(f"port {engine_port} is taken: choose another for the engine with --engine-port")
    environ = gateway_environment(os.environ)
    return demo_config(_engine_url(port), environ=environ, overrides=overrides), port


def _check_files(config: Config, config_file: Path | None) -> None:
    """Raise one `ConfigError` for all files that cannot be used. Log warnings about settings with a price."""
    wanted = plan(config)
    if problems := startup_problems(wanted):
        raise ConfigError(problems)
    for caution in preflight.cautions(config, wanted, config_file):
        log.warning("configuration warning", setting=caution.setting, found=caution.found, remedy=caution.remedy)


@asynccontextmanager
async def gateway(
    config: Config,
    *,
    engine_port: int | None,
    run: AbstractContextManager[None] | None = None,
    reread: Callable[[], Config] | None = None,
) -> AsyncIterator[App]:
    """Run the gateway of `config`, with our own engine on `engine_port` unless that is None.

    `run` is entered once the state directory is locked. `reread` reads the configuration again, for a reload.
    """
    async with AsyncExitStack() as stack:
        engine = None
        if engine_port is not None:
            state_dir = Path(config.server.state_dir) / "engine" if config.server.state_dir else None
            port = stack.enter_context(closing(_held(engine_port)))
            engine = supervised_engine(port, state_dir=state_dir, notify_url=hint_url(config))
        try:
            beside = _beside(run or nullcontext(), engine or nullcontext())
            app = await stack.enter_async_context(running(config, beside=beside, reread=reread))
        except OSError as error:
            address = f"{config.server.host}, port {config.server.port}"
            raise CannotListen(f"cannot listen on {address}: {error.strerror or error}") from error
        yield app


@asynccontextmanager
async def _beside(run: AbstractContextManager[None], engine: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    with run:
        async with engine:
            yield


def tune_garbage_collection() -> None:
    """Exclude all current objects from garbage collection, and collect rarely.

    A collection finds little: events are in no reference cycles, and a connection that ends leaves some twenty objects
    in them. But each one
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
