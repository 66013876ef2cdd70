"""Whether a gateway that runs has the configuration that its file has: checks for ``doctor``."""

import os
from collections.abc import Iterator
from pathlib import Path

from tidegate.cli.environment import gateway_environment
from tidegate.cli.findings import Finding, Level
from tidegate.cli.reload_record import last_reload
from tidegate.cli.run_record import RunRecord, run_record
from tidegate.config import load
from tidegate.config.fingerprint import config_hash

WHAT = "configuration in force"


def examined_reload(directory: Path, config_file: Path) -> Iterator[Finding]:
    """Compare the gateway that uses `directory` with `config_file`, which is valid.

    Yields nothing if no gateway that was started with that file uses the directory.
    """
    run = run_record(directory)
    if run is None or run.state == "ended" or run.config is None or Path(run.config) != config_file.absolute():
        return
    last = last_reload(directory)
    last = last if last is not None and last.pid == run.pid else None
    if last is not None and last.problems:
        found = f"the last reload, at {last.at}, was refused: {'; '.join(map(str, last.problems))}"
        yield Finding(Level.WARN, WHAT, found, "mend the file, then `tidegate reload`")
    elif _hash_of(config_file, run) != (run.config_hash if last is None else last.config_hash):
        found = "the gateway runs with another configuration than the file and this environment have"
        yield Finding(Level.WARN, WHAT, found, f"`tidegate reload --config {config_file}`, or restart the gateway")
    elif last is None or not last.needs_restart:
        yield Finding(Level.OK, WHAT, f"that of the file, since {run.started_at if last is None else last.at}")
    if last is not None and last.needs_restart:
        found = f"the gateway does not have what the file says of {', '.join(last.needs_restart)}"
        yield Finding(Level.WARN, WHAT, found, "restart it: these keys cannot be reloaded")


def _hash_of(config_file: Path, run: RunRecord) -> str:
    """Return the hash of what the gateway would read now, with the options of its command line."""
    environ = gateway_environment(os.environ)
    return config_hash(load(config_file, environ=environ, overrides=run.overrides, needs_sources=True))
