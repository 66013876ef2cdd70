"""The ``config`` commands: write, check, show and describe configurations."""

import difflib
import os
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidegate.cli.environment import gateway_environment
from tidegate.config import EXAMPLE, load, schema, show
from tidegate.config.plugin_examples import plugin_examples
from tidegate.config.recipes import recipe, recipes
from tidegate.errors import ConfigError, Problem, TidegateError
from tidegate.printable import printable


class FileExists(TidegateError):
    """The file exists already, and is not overwritten."""


def write_example(path: Path) -> int:
    """Write the example configuration to `path`. Raises `FileExists`, `OSError`."""
    _write(path, EXAMPLE + plugin_examples())
    sys.stdout.write(f"{path} written; `tidegate serve --config {path}` uses it\n")
    return 0


def write_recipe(path: Path, name: str) -> int:
    """Write the recipe `name` to `path`, and say what is left to do. Raises `ConfigError`, `FileExists`, `OSError`."""
    known = recipes()
    if name not in known:
        raise ConfigError([Problem("--for", _one_of(known, name), repr(name))])
    text = recipe(name)
    _write(path, text)
    sys.stdout.write(f"{path} written. {known[name]}\n{_next_steps(path, text)}")
    return 0


def list_recipes() -> int:
    """Print the names of the recipes, and what each is for."""
    known = recipes()
    width = max(map(len, known))
    sys.stdout.writelines(f"{name:<{width}}  {line}\n" for name, line in known.items())
    return 0


def check(path: Path) -> int:
    """Check the configuration at `path` and the files that it names, as ``serve`` would. Print warnings.

    Raises `ConfigError` with all problems for which ``serve`` would refuse to start.
    """
    from tidegate.cli import preflight  # imported late: it imports the gateway, which the other commands do not need
    from tidegate.plan import plan

    config = load(path, environ=gateway_environment(os.environ), needs_sources=True)
    wanted = plan(config)
    if found := preflight.problems(wanted):
        raise ConfigError(found)
    for caution in preflight.cautions(config, wanted, path):
        sys.stderr.write(f"tidegate: warning: {printable(str(caution))}\n")
    sys.stdout.write(f"{path}: {len(config.backends)} backend(s), {len(config.sources)} source(s), no problem\n")
    return 0


def print_whole(path: Path) -> int:
    """Print the configuration at `path` with every default and without secrets. Raises `ConfigError`."""
    sys.stdout.write(show(load(path, environ=gateway_environment(os.environ))))
    return 0


def print_schema() -> int:
    """Print the JSON Schema of the configuration file."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n")
    return 0


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise FileExists(f"{path} already exists, and is left unchanged") from error


def _one_of(known: Mapping[str, str], name: str) -> str:
    similar = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    guess = f"did you mean {similar[0]!r}? " if similar else ""
    return f"the name of a recipe ({guess}there are {', '.join(known)})"


def _next_steps(path: Path, text: str) -> str:
    """Say what a recipe still needs: the address of the service, and files with secrets."""
    backends = tomllib.loads(text)["backends"]
    secrets = [file for backend in backends.values() for file in backend.get("secrets", {}).values()]
    files = {str(path.parent / file): None for file in secrets}
    steps = [f"put the address of the service into it, now {', '.join(each['url'] for each in backends.values())}"]
    steps += [
        f"write the secret into {file}, for you alone: `(umask 077; cat >{shlex.quote(file)})`, paste it, Enter, Ctrl-D"
        for file in files
    ]
    steps += [f"`tidegate doctor --config {path}` shows what comes", f"`tidegate serve --config {path}` uses it"]
    return "".join(f"{number}. {step}\n" for number, step in enumerate(steps, start=1))
