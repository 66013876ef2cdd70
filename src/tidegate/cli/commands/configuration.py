"""The ``config`` commands: write, check, show and describe configurations."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tidegate.cli.commands.parameters import CONFIG_FILE
from tidegate.errors import ConfigError, Problem

ConfigPath = Annotated[Path | None, Parameter(help="Configuration file; by default tidegate.toml.")]
SamePath = Annotated[Path | None, Parameter(help="The same as PATH, under the name that other commands use.")]

app = App(name="config", help="Write, check, show and describe configurations.")


@app.command(name="init")
def init(path: Path = CONFIG_FILE, /, *, for_: Annotated[str | None, Parameter(name="--for")] = None) -> int:
    """Write an example configuration in which every setting is explained, or a recipe for a service.

    Parameters
    ----------
    path
        File to write. It must not exist.
    for_
        Name of a service, such as aria2: write a short configuration for it. `tidegate config recipes` lists them.
    """
    from tidegate.cli import configuring

    return configuring.write_example(path) if for_ is None else configuring.write_recipe(path, for_)


@app.command(name="recipes")
def recipes() -> int:
    """List the services for which `tidegate config init --for NAME` writes a configuration."""
    from tidegate.cli import configuring

    return configuring.list_recipes()


@app.command(name="check")
def check(path: ConfigPath = None, /, *, config: SamePath = None) -> int:
    """Check a configuration and the files that it names, and report all problems."""
    from tidegate.cli import configuring

    return configuring.check(_one_file(path, config))


@app.command(name="show")
def show(path: ConfigPath = None, /, *, config: SamePath = None) -> int:
    """Print the effective configuration, including defaults and the environment. Secrets are masked."""
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
