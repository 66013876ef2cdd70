"""``config``: writing, checking, showing and describing configurations."""

from pathlib import Path

from cyclopts import App

from tidegate.cli.commands.parameters import CONFIG_FILE
from tidegate.errors import ConfigError, Problem

app = App(name="config", help="Write, check, show and describe configurations.")


@app.command(name="init")
def init(path: Path = CONFIG_FILE, /) -> int:
    """Write a configuration to start from, every setting explained.

    Parameters
    ----------
    path
        File to write, which must not exist.
    """
    from tidegate.cli import configuring

    return configuring.write_example(path)


@app.command(name="check")
def check(path: Path | None = None, /, *, config: Path | None = None) -> int:
    """Check a configuration and the files that it names, and report everything wrong with it.

    Parameters
    ----------
    path
        File to check; by default tidegate.toml.
    config
        The same, as other commands call it.
    """
    from tidegate.cli import configuring

    return configuring.check(_one_file(path, config))


@app.command(name="show")
def show(path: Path | None = None, /, *, config: Path | None = None) -> int:
    """Print a configuration as it counts: with every default and the environment, without secrets.

    Parameters
    ----------
    path
        File to show; by default tidegate.toml.
    config
        The same, as other commands call it.
    """
    from tidegate.cli import configuring

    return configuring.print_whole(_one_file(path, config))


@app.command(name="schema")
def schema() -> int:
    """Print the JSON Schema of the configuration file, for editors."""
    from tidegate.cli import configuring

    return configuring.print_schema()


def _one_file(path: Path | None, config: Path | None) -> Path:
    if path is not None and config is not None:
        raise ConfigError([Problem("--config", "no other file beside it", str(path))])
    return path or config or CONFIG_FILE
