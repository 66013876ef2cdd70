"""Whether a gateway that runs has the configuration that its file has: checks for ``doctor``.

A gateway on this machine says it in its state directory, others at their address, if the token may see it.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidegate.cli.environment import gateway_environment
from tidegate.cli.findings import Finding, Level
from tidegate.cli.reload_record import last_reload
from tidegate.cli.run_record import run_record
from tidegate.client.addresses import api_url
from tidegate.client.asking import NoAnswer, ask
from tidegate.config import load
from tidegate.config.fingerprint import config_hash

WHAT = "configuration in force"

ASK_S = 5.0


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that a gateway has `since` a time, and why it refused the file at the `last` reload, if it did.

    `overrides` are the options of its command line, as far as they are known.
    """

    config_hash: str
    since: str
    needs_restart: tuple[str, ...] = ()
    refused: str | None = None
    overrides: Mapping[str, object] = {}


def recorded(directory: Path, config_file: Path) -> InForce | None:
    """Return what the gateway that uses `directory` has; None unless it was started with `config_file`."""
    run = run_record(directory)
    if run is None or run.state == "ended" or run.config is None or Path(run.config) != config_file.absolute():
        return None
    last = last_reload(directory)
    if last is None or last.pid != run.pid:
        return InForce(config_hash=run.config_hash, since=run.started_at, overrides=run.overrides)
    return InForce(
        config_hash=last.config_hash,
        since=last.at,
        needs_restart=last.needs_restart,
        refused=f"at {last.at}: {'; '.join(map(str, last.problems))}" if last.problems else None,
        overrides=run.overrides,
    )


async def asked(url: str, token: str | None) -> InForce | None:
    """Return what the gateway at `url` says that it has; None if it does not say so to whoever has `token`."""
    try:
        answer = await ask("GET", api_url(url, "/api/v1/status"), timeout_s=ASK_S, token=token)
        config: dict[str, Any] = msgspec.json.decode(answer.body)["config"]
        last = config["last_reload"] or {}
        return InForce(
            config_hash=config["hash"],
            since=config["loaded_at"],
            needs_restart=tuple(config["needs_restart"]),
            refused=f"at {last['at']}: {last['problems']} problem(s)" if last.get("problems") else None,
        )
    except (NoAnswer, TimeoutError, ValueError, LookupError, TypeError):  # ValueError: no JSON, or no address
        return None


def compared(found: InForce, config_file: Path) -> Iterator[Finding]:
    """Compare what a gateway has with `config_file`, which is valid."""
    environ = gateway_environment(os.environ)
    wanted = config_hash(load(config_file, environ=environ, overrides=found.overrides, needs_sources=True))
    if found.refused is not None:
        remedy = "mend the file, then `tidegate reload`"
        yield Finding(Level.WARN, WHAT, f"the last reload was refused, {found.refused}", remedy)
    elif wanted != found.config_hash:
        said = "the gateway runs with another configuration than the file and this environment have"
        yield Finding(Level.WARN, WHAT, said, f"`tidegate reload --config {config_file}`, or restart the gateway")
    elif not found.needs_restart:
        yield Finding(Level.OK, WHAT, f"that of the file, since {found.since}")
    if found.needs_restart:
        said = f"the gateway does not have what the file says of {', '.join(found.needs_restart)}"
        yield Finding(Level.WARN, WHAT, said, "restart it: these keys cannot be reloaded")
