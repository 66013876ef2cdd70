"""Loads the configuration: makes one validated `Config` of a file, the environment and the command line."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tidegate import files
from tidegate.config import layers, plugged, rules
from tidegate.config.model import Config, ServerConfig
from tidegate.config.reader import Reader
from tidegate.errors import ConfigError, Problem

FILE_BYTES = 16 * 1024 * 1024
"""Limit on a configuration file, for tens of thousands of sources. A gateway that runs must survive any other file."""


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    sources: Mapping[str, Mapping[str, object]] | None = None,
    needs_sources: bool = False,
) -> Config:
    """Load the configuration from the file at `path` (None: no file), `environ` and `overrides`.

    `environ` takes precedence over the file, and `overrides` over both. `overrides` maps dotted paths (``server.port``)
    to values; None means not given. `sources` are tables of more sources, by their event types; one replaces that of
    the file with the same name. Relative paths in the file are relative to its directory, all others to the
    working directory. With `needs_sources`, a configuration without a source is refused unless
    `server.allow_no_sources` is set: the file may be empty, or only its beginning. Does disk I/O, so it may block.
    Raises `ConfigError` with all problems.
    """
    document: Mapping[str, object] = {} if path is None else _parsed(path)
    if sources:
        document = _with_sources(document, sources)
    return from_document(
        document,
        environ=environ,
        overrides=overrides,
        directory=None if path is None else path.parent,
        needs_sources=needs_sources,
    )


def from_document(
    document: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    directory: Path | None = None,
    needs_sources: bool = False,
) -> Config:
    """Load the configuration from a parsed file, like `load`. Its relative paths are relative to `directory`."""
    is_empty = not document
    document, mistakes = layers.with_environment(document, environ)
    document = layers.with_overrides(document, overrides or {})
    reader = Reader(directory=directory or Path(), rules=rules.within)
    for mistake in mistakes:
        reader.refuse(mistake)
    config = reader.read(Config, _with_state_dir(document, environ))
    if isinstance(config, Config):
        config = plugged.with_options(
            config, directory=directory or Path(), is_clean=reader.is_clean, refuse=reader.refuse
        )
    backends = document.get("backends")
    names = backends.keys() if isinstance(backends, Mapping) else ()
    for mistake in list(rules.across(config, backends=names, is_clean=reader.is_clean)):
        reader.refuse(mistake)
    if needs_sources and reader.is_clean("sources"):
        for mistake in rules.without_sources(config, is_empty=is_empty):
            reader.refuse(mistake)
    if reader.problems:
        raise ConfigError(reader.problems)
    assert isinstance(config, Config)
    return config


def server_table(path: Path, *, environ: Mapping[str, str]) -> ServerConfig:
    """Return the table ``[server]`` of the file at `path`, as far as it can be read: to find a gateway that runs.

    Values that are not valid get their defaults, like all of a file that cannot be read. If it is no TOML from some
    line on, what stands before that counts. Does disk I/O, so it may block. Raises nothing.
    """
    document, _ = layers.with_environment(_beginning(path), environ)
    reader = Reader(directory=path.parent, rules=lambda _: ())
    server = reader.read(ServerConfig, _with_state_dir(document, environ).get("server", {}), ("server",))
    return server if isinstance(server, ServerConfig) else ServerConfig()


def _beginning(path: Path) -> dict[str, object]:
    """Return what the file at `path` says up to its first error."""
    try:
        lines = files.read(path, limit=FILE_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return {}
    while lines:
        try:
            return tomllib.loads("\n".join(lines))
        except tomllib.TOMLDecodeError as error:
            place = re.search(r"\(at line (\d+), ", str(error))
            del lines[int(place[1]) - 1 if place and int(place[1]) <= len(lines) else -1 :]
        except (ValueError, RecursionError):
            lines.pop()
    return {}


def _parsed(path: Path) -> dict[str, object]:
    try:
        text = files.read(path, limit=FILE_BYTES).decode()
        return tomllib.loads(text)
    except FileNotFoundError:
        problem = Problem(str(path), "a configuration file", "no such file")
    except OSError as error:
        problem = Problem(str(path), "a configuration file that can be read", error.strerror or str(error))
    except UnicodeDecodeError as error:
        problem = Problem(_place(path, error.object[: error.start].decode()), "text in UTF-8", "other bytes")
    except tomllib.TOMLDecodeError as error:
        message, _, _ = str(error).partition(" (at ")
        problem = Problem(_place(path, _text_before(text, str(error))), "TOML", f"a syntax error: {message}")
    except RecursionError:
        problem = Problem(str(path), "TOML", "values that are nested too deep")
    except ValueError as error:
        problem = Problem(str(path), "TOML", str(error))
    raise ConfigError([problem])


def _with_sources(document: Mapping[str, object], more: Mapping[str, object]) -> Mapping[str, object]:
    there = document.get("sources", {})
    return {**document, "sources": {**there, **more}} if isinstance(there, Mapping) else document


def _text_before(text: str, message: str) -> str:
    """Return the part of `text` before the line and column in tomllib's `message`."""
    if place := re.search(r"\(at line (\d+), column (\d+)\)$", message):
        line, column = map(int, place.groups())
        lines = text.split("\n")
        return "\n".join([*lines[: line - 1], lines[line - 1][: column - 1]])
    return text


def _place(path: Path, before: str) -> str:
    lines = before.split("\n")
    return f"{path}, line {len(lines)}, column {len(lines[-1]) + 1}"


def _with_state_dir(document: Mapping[str, object], environ: Mapping[str, str]) -> Mapping[str, object]:
    server = document.get("server", {})
    if not isinstance(server, Mapping) or "state_dir" in server:
        return document
    return {**document, "server": {**server, "state_dir": _default_state_dir(environ)}}


def _default_state_dir(environ: Mapping[str, str]) -> str:
    """Return systemd's StateDirectory=, else the directory of the XDG Base Directory Specification."""
    if directories := environ.get("STATE_DIRECTORY"):
        return str(Path(directories.split(":")[0]).absolute())
    state_home = Path(environ.get("XDG_STATE_HOME", ""))
    if state_home.is_absolute():  # the specification says to ignore relative paths
        return str(state_home / "tidegate")
    home = environ.get("HOME")
    return str(Path(home).absolute() / ".local/state/tidegate") if home else ""
