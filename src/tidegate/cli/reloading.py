"""The command ``reload``: has a running gateway read its configuration again, and prints what came of it."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from tidegate.cli.environment import gateway_environment
from tidegate.cli.reload_record import FILE, last_reload
from tidegate.cli.running_gateway import GatewayProcess, NotFound, found_process, state_directory
from tidegate.client.addresses import api_url
from tidegate.client.asking import Answer, ask, reaching
from tidegate.client.refusals import answer_text, problem_detail
from tidegate.config import ServerConfig, load
from tidegate.config.loading import server_table
from tidegate.core.access.authority import is_unspecified
from tidegate.core.reloads import Reloaded
from tidegate.errors import AccessRefused, Problem, TidegateError, Unreachable
from tidegate.printable import printable, printable_json

PATIENCE_S = 30.0
"""How long to wait for the end of a reload."""

LOOK_EVERY_S = 0.05

PATH = "/api/v1/reload"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a reload: the gateway's answer, or all problems of the configuration that it refused."""

    answer: Reloaded | None
    problems: tuple[Problem, ...] = ()


class NoOutcome(TidegateError):
    """Nobody said in time what came of the reload."""


def reload(config: Path, url: str | None, token: str | None, *, json: bool) -> int:
    """Have the gateway at `url`, or else the one that was started with the file `config`, read its file again.

    Prints what came of it, and returns the exit code: 1 if the file was refused, 2 if no gateway said anything. A
    gateway without a state directory is asked at the address in the file. Raises `AccessRefused`, and `ConfigError` if
    no gateway is found and the file is not valid.
    """
    environ = gateway_environment(os.environ)
    server = server_table(config, environ=environ)
    try:
        named = Path(server.state_dir) if server.state_dir else None
        if url is None and (directory := state_directory(config, named)):
            with found_process(directory, config) as process:
                outcome = signalled(process, directory)
        else:
            outcome = asyncio.run(asked(url or _url(server), token))
    except (NotFound, NoOutcome, Unreachable) as error:
        sys.stderr.write(f"tidegate: {printable(str(error))}\n")
        if isinstance(error, NotFound):  # perhaps only because the file does not say where the gateway keeps its state
            load(config, environ=environ, needs_sources=True)
        return 2
    return printed(outcome, json=json)


def signalled(
    process: GatewayProcess,
    directory: Path,
    *,
    patience_s: float = PATIENCE_S,
    now: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
) -> Outcome:
    """Send SIGHUP to `process`, and return what it records in `directory` of a reload that began after that.

    Raises `NotFound` if it cannot be signalled, `NoOutcome` if nothing is recorded in time.
    """
    sent = now()
    process.hang_up()
    while True:
        has_ended = process.has_ended()  # asked first: its last record may come just before
        record = last_reload(directory)
        if record is not None and record.pid == process.pid and record.began >= sent:
            return Outcome(answer=record.answer, problems=record.problems)
        if has_ended:
            raise NoOutcome("the gateway ended before it had reloaded")
        if now() - sent > patience_s:
            found = f"nothing came of the reload within {patience_s:g} s"
            why = f"the gateway may be draining, or cannot write {directory / FILE}, as on a full disk"
            raise NoOutcome(f"{found}: {why}; its log says more")
        time.sleep(LOOK_EVERY_S)


async def asked(url: str, token: str | None, *, patience_s: float = PATIENCE_S) -> Outcome:
    """POST to the route of the gateway at `url`, again while another reload is under way.

    Raises `AccessRefused` with the gateway's reason, `Unreachable`, and `NoOutcome` if others reload all the time.
    """
    deadline = time.monotonic() + patience_s
    while True:
        with reaching(url, timeout_s=patience_s):
            answer = await ask("POST", api_url(url, PATH), timeout_s=patience_s, token=token)
        if answer.status != 409 or "retry-after" not in answer.headers:
            return _outcome(answer)
        if time.monotonic() > deadline:
            raise NoOutcome(f"other reloads have been under way for {patience_s:g} s")
        await asyncio.sleep(LOOK_EVERY_S)


def printed(outcome: Outcome, *, json: bool) -> int:
    """Print `outcome`, as JSON or for people. Return the exit code: 1 if the configuration was refused."""
    if json:
        sys.stdout.write(f"{printable_json(msgspec.json.encode(outcome).decode())}\n")
    elif outcome.answer is not None:
        sys.stdout.writelines(f"{printable(line)}\n" for line in _lines(outcome.answer))
    else:
        first = "tidegate: the gateway has not put the configuration in force:"
        sys.stderr.writelines(
            f"{printable(line)}\n" for line in (first, *(f"  {problem}" for problem in outcome.problems))
        )
    return 1 if outcome.answer is None else 0


class _Refused(msgspec.Struct):
    errors: tuple[Problem, ...]


def _outcome(answer: Answer) -> Outcome:
    try:
        if answer.status == 200:
            return Outcome(answer=msgspec.json.decode(answer.body, type=Reloaded))
        if answer.status == 422:
            return Outcome(answer=None, problems=msgspec.json.decode(answer.body, type=_Refused).errors)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreachable(f"no gateway answers there, but something else: {error}") from error
    reason = problem_detail(answer.body)
    found = answer_text(answer.status, answer.phrase, location=answer.headers.get("location"))
    raise AccessRefused(answer.status, reason or found)


def _lines(answer: Reloaded) -> Iterator[str]:
    """Yield what has changed, as a person reads it."""
    changed = answer.changed
    kinds = {"added": changed.added, "removed": changed.removed, "changed": changed.changed}
    yield "reloaded" if any(kinds.values()) else "reloaded, nothing has changed"
    for kind, names in kinds.items():
        yield from _listed(kind, names)
    yield f"  unchanged backends and sources: {answer.unchanged}"
    yield from _listed("needs a restart", answer.needs_restart)


def _listed(what: str, names: Sequence[str]) -> Iterator[str]:
    yield from (f"  {what}: {name}" for name in names)


def _url(server: ServerConfig) -> str:
    """Return the URL of the gateway that listens as `server` says."""
    host = "localhost" if is_unspecified(server.host) else server.host
    named = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'http' if server.tls_cert_file is None else 'https'}://{named}:{server.port}{server.root_path}"
