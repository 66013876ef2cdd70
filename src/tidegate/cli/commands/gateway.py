"""The commands ``serve``, ``demo``, ``reload`` and ``doctor``: run and check a gateway."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tidegate.cli.commands.parameters import CONFIG_FILE, LogLevel, Port, check_url
from tidegate.cli.environment import TOKEN, URL
from tidegate.errors import ConfigError, Problem
from tidegate.extras import require

if TYPE_CHECKING:
    from tidegate.cli.signals import Stop


def serve(
    *,
    config: Path | None = None,
    host: str | None = None,
    port: Port | None = None,
    demo: bool = False,
    engine_port: Port | None = None,
    log_level: LogLevel = "info",
) -> int:
    """Run the gateway. Without a configuration, also start the reference engine and stream this machine's status.

    Parameters
    ----------
    config
        Configuration file in TOML; by default tidegate.toml, if it exists. `tidegate config init` writes one.
    host
        Address to listen on; overrides the file. An address other than loopback needs [auth].
    port
        Port to listen on, 0 for any free port; overrides the file.
    demo
        Stream this machine's status even if tidegate.toml exists.
    engine_port
        Port for the engine that is started if there is no configuration.
    log_level
        Lowest level to log.
    """
    file = _served_file(config, demo=demo)
    require("gateway", *(() if file else ("engine",)))
    from tidegate.cli import logs, signals

    async def work(stopped: "Stop") -> int:
        from tidegate.cli import serving  # slow to import, so only after the signal handlers are set

        return await serving.serve(stopped, config_file=file, overrides=overrides, engine_port=engine_port)

    logs.configure(log_level)
    if file is not config:
        import structlog

        structlog.get_logger("tidegate").info("using the configuration file in this directory", file=str(file))
    overrides = {"server.host": host, "server.port": port}
    return signals.run(work)


def demo(*, json: bool = False, log_level: LogLevel = "warning") -> int:
    """Try it out: run the gateway and the reference engine, and show this machine's status live until Ctrl-C.

    Parameters
    ----------
    json
        Print lines of JSON instead of a table.
    log_level
        Lowest level to log.
    """
    require("gateway", "engine")
    from tidegate.cli import logs, signals

    async def work(stopped: "Stop") -> int:
        from tidegate.cli import following, serving  # slow to import, so only after the signal handlers are set

        return await serving.demo(stopped, following.Following(json=json))

    logs.configure(log_level)
    return signals.run(work)


def reload(*, config: Path | None = None, url: str | None = None, json: bool = False) -> int:
    """Have a running gateway read its configuration file again, and say what has changed.

    All of the file is put in force or nothing, and no client is disconnected. The exit code is 1 if the gateway refuses
    the file, with everything that is wrong with it, and 2 if no gateway could be asked.

    Parameters
    ----------
    config
        Configuration file of the gateway, which is found by its state directory; by default tidegate.toml.
    url
        URL of the gateway instead, by default $TIDEGATE_URL if there is no --config. Set TIDEGATE_TOKEN if it needs a
        token: one with the role admin and without `types`.
    json
        Print one JSON object: `answer`, which is null if the file was refused, and `problems`.
    """
    if config is not None and url is not None:
        raise ConfigError([Problem("--url", "no --config beside it", url)])
    if config is None and url is None:
        url = os.environ.get(URL)
    if url is not None:
        check_url(url)
    file = config or CONFIG_FILE
    if url is None and config is None and not file.exists():
        raise ConfigError([Problem("--config", "a configuration file, or --url", f"neither, and there is no {file}")])
    require("gateway")
    from tidegate.cli import reloading

    return reloading.reload(file, url, os.environ.get(TOKEN), json=json)


def doctor(
    *,
    config: Path | None = None,
    demo: bool = False,
    url: Annotated[str | None, Parameter(env_var=URL)] = None,
) -> int:
    """Check everything that a gateway needs, and say how to fix what is wrong.

    This covers configuration, files, limits, address and state directory, and polls each source once.

    Parameters
    ----------
    config
        Configuration file to check; by default what `tidegate serve` uses without one.
    demo
        Check what `tidegate serve --demo` runs.
    url
        URL of a gateway that must be running; by default, a gateway may or may not run at the configured address.
    """
    file = _served_file(config, demo=demo)
    require("gateway", *(() if file else ("engine",)))
    from tidegate.cli import logs, signals

    async def work(stopped: "Stop") -> int:
        from tidegate.cli import examining

        return await examining.examine(stopped, config_file=file, url=url)

    if url is not None:
        check_url(url)
    logs.configure("error")
    return signals.run(work)


def _served_file(config: Path | None, *, demo: bool) -> Path | None:
    """Return the configuration file to serve, or None to run with the reference engine."""
    if config is not None and demo:
        raise ConfigError([Problem("--demo", "no --config beside it", str(config))])
    if config is not None or demo:
        return config
    return CONFIG_FILE if CONFIG_FILE.exists() else None
