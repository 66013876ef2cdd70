"""The ``call`` command: asks a configured backend once, and prints its answer, or the events that a source makes of it.

The call takes the gateway's own way: the same configuration, adapters, credentials and limits. No gateway is needed. A
call that no source describes is read and checked as if it were a source of the configuration, named `CALL`.
"""

import asyncio
import difflib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from tidegate.checks import backend_problems
from tidegate.cli.asking import CLOCK, Reply, asked
from tidegate.cli.environment import gateway_environment
from tidegate.cli.examining_backends import explained
from tidegate.cli.findings import INDENT
from tidegate.cli.outline import size
from tidegate.cli.remedies import subject_of
from tidegate.cli.signals import until
from tidegate.config import Config, load
from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.core.polling.source_values import Value
from tidegate.errors import ConfigError, Problem
from tidegate.outbound.backends.opening import opened
from tidegate.plan import PlannedBackend, plan
from tidegate.printable import printable, printable_json

CALL = "call"
"""The name of the source that stands for the call. It replaces one of that name, which can be asked with `--source`."""

ANY_SIZE = 2**62

T = TypeVar("T")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask: a `backend` with a method or path, or as the configured `source` does.

    `options` are keys of a source, with the values that the command line gives them; None is not given.
    """

    backend: str | None = None
    method: str | None = None
    source: str | None = None
    options: Mapping[str, object] = {}
    timeout_s: float | None = None


async def call(stopped: asyncio.Event, wanted: Wanted, config_file: Path) -> int:
    """Ask once and print what came. Return 0, or 1 if there was no good answer or `stopped` was set.

    The answer goes to stdout: for people on a terminal, byte for byte elsewhere. All else goes to stderr. Raises
    `ConfigError`.
    """
    config = _config(wanted, config_file)
    backend, source = _planned(config, wanted)
    if problems := backend_problems(backend):
        raise ConfigError(problems)
    reply = await until(stopped, _asked(backend, source))
    if reply is None:
        return 1
    if reply.fault is not None:
        await _tell(config, backend, source, reply, as_source=wanted.source is not None)
        return 1
    assert reply.answer is not None, "a value was made of it"
    if wanted.source is None:
        _show(reply.scrubbed(bytes(reply.answer).decode()))
    else:
        for event in _events(source.spec.type, reply.value):
            _show(reply.scrubbed(event))
    sys.stdout.flush()
    sys.stderr.write(f"{size(reply.answer)} in {reply.elapsed_s:.3f} s\n")
    return 0


def _config(wanted: Wanted, config_file: Path) -> Config:
    """Load the configuration, with the call as one of its sources, unless it is one already."""
    environ = gateway_environment(os.environ)
    config = load(config_file, environ=environ)
    backend = wanted.backend
    if wanted.source is not None:
        backend = _known(config.sources, wanted.source, "--source", "a source").backend
    assert backend is not None, "the command has checked that"
    protocol = _known(config.backends, backend, "BACKEND", "a backend").protocol
    limit_s = {f"backends.{backend}.timeout_s": wanted.timeout_s}
    if wanted.source is not None:
        limit_s[f'sources."{wanted.source}".timeout_s'] = wanted.timeout_s
    given = {"backend": backend, _method_key(protocol): wanted.method, **wanted.options}
    try:
        return load(
            config_file,
            environ=environ,
            overrides=limit_s,
            sources={CALL: given} if wanted.source is None else {},
        )
    except ConfigError as error:
        raise ConfigError([_as_option(problem) for problem in error.problems]) from error


def _known(tables: Mapping[str, T], name: str, place: str, what: str) -> T:
    if name in tables:
        return tables[name]
    similar = difflib.get_close_matches(name, tables, n=1, cutoff=0.5)
    guess = f"did you mean {similar[0]!r}? " if similar else ""
    known = f"{guess}there are {', '.join(tables)}" if tables else "there is none"
    raise ConfigError([Problem(place, f"the name of {what} ({known})", repr(name))])


def _method_key(protocol: str) -> str:
    return "path" if protocol == "http" else "method"


def _as_option(problem: Problem) -> Problem:
    """Name what the user wrote, and not the key of the configuration that stands for it."""
    prefix = f"sources.{CALL}"
    if not problem.path.startswith(prefix):
        return problem
    key = problem.path.removeprefix(prefix).lstrip(".")
    name = {"method": "METHOD_OR_PATH", "path": "METHOD_OR_PATH", "params": "PARAMS", "": "the call"}.get(key)
    return msgspec.structs.replace(problem, path=name or f"--{key.replace('_', '-')}")


def _planned(config: Config, wanted: Wanted) -> tuple[PlannedBackend, SourcePlan]:
    event_type = wanted.source or CALL
    backend = next(each for each in plan(config).backends if each.name == config.sources[event_type].backend)
    source = next(each for each in backend.polling.sources if each.spec.type == event_type)
    if wanted.source is None:  # the limit is for events, and this makes none
        backend = msgspec.structs.replace(
            backend, polling=msgspec.structs.replace(backend.polling, event_bytes=ANY_SIZE)
        )
    return backend, source


async def _asked(backend: PlannedBackend, source: SourcePlan) -> Reply:
    async with opened(backend.endpoint, CLOCK) as connection:
        return await asked(connection, backend.polling, source)


async def _tell(config: Config, backend: PlannedBackend, source: SourcePlan, reply: Reply, *, as_source: bool) -> None:
    """Print to stderr what went wrong, and what to do about it."""
    assert reply.fault is not None, "the caller has looked"
    subject = subject_of(config.backends[backend.name], backend.name, source)
    if not as_source:
        subject = msgspec.structs.replace(subject, setting="this call")
    details, advice = await explained(subject, reply)
    lines = [f"tidegate: {reply.fault.code}, {reply.fault.message}"]
    lines += [f"{INDENT}{detail}" for detail in details] + [f"{INDENT}→ {advice}"]
    sys.stderr.writelines(f"{printable(reply.scrubbed(line))}\n" for line in lines)


def _events(event_type: str, value: Value | None) -> Iterator[str]:
    """Yield the events that are made of `value`, as JSON with the names that events have in the protocol."""
    named = value.items() if isinstance(value, Mapping) else [(None, value)]
    for key, data in named:
        event = {"type": event_type, **({} if key is None else {"key": key}), "data": data}
        yield msgspec.json.encode(event).decode()


def _show(text: str) -> None:
    """Print JSON: indented and harmless for a terminal, else as it is on one line."""
    if sys.stdout.isatty():
        lines = msgspec.json.format(text, indent=2).split("\n")
        text = "\n".join(map(printable_json, lines))
    sys.stdout.write(f"{text}\n")
