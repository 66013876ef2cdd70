"""``serve``, ``demo`` and ``doctor``: the gateway itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tidegate.cli.commands.parameters import CONFIG_FILE, LogLevel, Port, check_url
from tidegate.cli.environment import URL
from tidegate.errors import ConfigError, Problem
from tidegate.extras import require

if TYPE_CHECKING:
    import asyncio


def serve(
    *,
    config: Path | None = None,
    host: str | None = None,
    port: Port | None = None,
    demo: bool = False,
    engine_port: Port | None = None,
    log_level: LogLevel = "info",
) -> int:
    """Run the gateway. Without a configuration it starts the reference engine beside it and shows this machine.

    Parameters
    ----------
    config
        Configuration file in TOML, by default tidegate.toml if it is there; see `tidegate config init`.
    host
        Address to listen on; wins over the file. Anything beyond loopback needs [auth].
    port
        Port to listen on, 0 for any; wins over the file.
    demo
        Show this machine, whether tidegate.toml is there or not.
    engine_port
        Port for the engine that is started when there is no configuration.
    log_level
        Least important lines to log.
    """
    file = _served_file(config, demo=demo)
    require("gateway", *(() if file else ("engine",)))
    from tidegate.cli import logs, signals

    async def work(stopped: "asyncio.Event") -> int:
        from tidegate.cli import serving  # heavy: signals are heard already

        return await serving.serve(stopped, config_file=file, overrides=overrides, engine_port=engine_port)

    logs.configure(log_level)
    if file is not config:
        import structlog

        structlog.get_logger("tidegate").info("configuration read, since it is here", file=str(file))
    overrides = {"server.host": host, "server.port": port}
    return signals.run(work)


def demo(*, json: bool = False, log_level: LogLevel = "warning") -> int:
    """See it work: the gateway, the reference engine and a live view of this machine, until Ctrl-C.

    Parameters
    ----------
    json
        Lines of JSON instead of a table.
    log_level
        Least important lines to log.
    """
    require("gateway", "engine")
    from tidegate.cli import logs, signals

    async def work(stopped: "asyncio.Event") -> int:
        from tidegate.cli import following, serving  # heavy: signals are heard already

        return await serving.demo(stopped, following.Following(json=json))

    logs.configure(log_level)
    return signals.run(work)


def doctor(
    *,
    config: Path | None = None,
    demo: bool = False,
    url: Annotated[str | None, Parameter(env_var=URL)] = None,
) -> int:
    """Look at all that a gateway needs, and say what to do about what is missing.

    Configuration, files, limits, address, state directory, and one call to each backend for each source.

    Parameters
    ----------
    config
        Configuration file to examine; by default what `tidegate serve` runs without one.
    demo
        Examine what `tidegate serve --demo` runs.
    url
        A gateway that is to be running; by default it may or may not run where the configuration says.
    """
    file = _served_file(config, demo=demo)
    require("gateway", *(() if file else ("engine",)))
    from tidegate.cli import logs, signals

    async def work(stopped: "asyncio.Event") -> int:
        from tidegate.cli import examining

        return await examining.examine(stopped, config_file=file, url=url)

    if url is not None:
        check_url(url)
    logs.configure("error")
    return signals.run(work)


def _served_file(config: Path | None, *, demo: bool) -> Path | None:
    """The configuration to serve; None for the reference engine beside the gateway."""
    if config is not None and demo:
        raise ConfigError([Problem("--demo", "no --config beside it", str(config))])
    if config is not None or demo:
        return config
    return CONFIG_FILE if CONFIG_FILE.exists() else None
