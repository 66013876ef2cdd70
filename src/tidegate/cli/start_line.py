"""What the log says of a gateway when it has started: what runs, with which configuration, and who may connect."""

import os
import platform
import resource
from collections.abc import Mapping
from pathlib import Path

from tidegate import __version__
from tidegate.cli.run_record import LastRun
from tidegate.config import Config
from tidegate.core.instant import rfc3339


def start_fields(
    config: Config, config_file: Path | None, last: LastRun | None, *, config_hash: str, epoch: str
) -> Mapping[str, object]:
    """Return the fields of the line, beside the URL. `last` is the run before in the same state directory."""
    server, history = config.server, config.history
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {
        "version": __version__,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "config": None if config_file is None else str(config_file.absolute()),
        "config_hash": config_hash,
        "backends": len(config.backends),
        "sources": len(config.sources),
        "access": config.auth.mode,
        "tokens": len(config.auth.tokens),
        "allowed_hosts": list(server.allowed_hosts),
        "allowed_origins": list(server.allowed_origins),
        "max_clients": server.max_clients,
        "history_events": history.events,
        "history_bytes": history.bytes,
        "open_files": None if limit == resource.RLIM_INFINITY else limit,
        "state_dir": server.state_dir or None,
        "epoch": epoch,
        **_how_it_ended(last),
    }


def _how_it_ended(last: LastRun | None) -> dict[str, object]:
    """Say how the run before ended, and when it was last seen if it was not let end."""
    if last is None or last.ended_well is None:
        return {"last_run": None}
    if last.ended_well:
        return {"last_run": "ended"}
    return {"last_run": "broke off", "last_seen": rfc3339(last.seen_at)}
