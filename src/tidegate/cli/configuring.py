"""The ``config`` commands: write, check, show and describe configurations."""

import os
import sys
from pathlib import Path

import msgspec

from tidegate.cli.environment import gateway_environment
from tidegate.config import EXAMPLE, Config, load, schema, show
from tidegate.errors import ConfigError, TidegateError
from tidegate.printable import printable


class FileExists(TidegateError):
    """The file exists already, and is not overwritten."""


def write_example(path: Path) -> int:
    """Write the example configuration to `path`. Raises `FileExists`, `OSError`."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except FileExistsError as error:
        raise FileExists(f"{path} already exists, and is left unchanged") from error
    sys.stdout.write(f"{path} written; `tidegate serve --config {path}` uses it\n")
    return 0


def check(path: Path) -> int:
    """Check the configuration at `path` and the files that it names, as ``serve`` would. Print warnings.

    Raises `ConfigError` with all problems for which ``serve`` would refuse to start.
    """
    from tidegate.cli import preflight  # imported late: it imports the gateway, which the other commands do not need
    from tidegate.plan import plan

    config = _loaded(path)
    wanted = plan(config)
    if found := preflight.problems(wanted):
        raise ConfigError(found)
    for caution in preflight.cautions(config, wanted, path):
        sys.stderr.write(f"tidegate: warning: {printable(str(caution))}\n")
    sys.stdout.write(f"{path}: {len(config.backends)} backend(s), {len(config.sources)} source(s), no problem\n")
    return 0


def print_whole(path: Path) -> int:
    """Print the configuration at `path` with every default and without secrets. Raises `ConfigError`."""
    sys.stdout.write(show(_loaded(path)))
    return 0


def print_schema() -> int:
    """Print the JSON Schema of the configuration file."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n")
    return 0


def _loaded(path: Path) -> Config:
    return load(path, environ=gateway_environment(os.environ))
