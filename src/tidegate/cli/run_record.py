"""What the lock file of a state directory says: which process uses the directory, and whether it ended well.

Whether a process uses it at all, the lock itself says: it is the kernel's, and ends with the process. Only `serve`
writes the record, since only its processes take a SIGHUP for a reload.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from tidegate import __version__, files
from tidegate.core.instant import Time, rfc3339
from tidegate.outbound.store_sqlite import FILE, LOCK

RECORD_BYTES = 65_536
"""Limit on a record. A larger one is none of ours."""


log = structlog.get_logger("tidegate")


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a gateway.

    `began_ticks` is when its process was started, in the kernel's clock ticks since the boot: another process that got
    the same `pid` later has another. `config` is its file, `overrides` are the settings of its command line, and
    `config_hash` belongs to the configuration that it began with.
    """

    state: Literal["running", "ended"]
    pid: int
    began_ticks: int | None
    version: str
    config: str | None
    config_hash: str
    overrides: Mapping[str, object]
    started_at: Time
    ended_at: Time | None = None


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """How the last run in a state directory ended: its record if there is one, and when it last wrote anything there.

    `seen_at` is in Unix seconds.
    """

    record: RunRecord | None
    seen_at: float

    @property
    def ended_well(self) -> bool | None:
        """Whether it ended with a drain; None if nothing says so."""
        return None if self.record is None else self.record.state == "ended"


def last_run(directory: Path) -> LastRun | None:
    """Return how the last run in `directory` ended; None if there was none. Call it before the directory is locked."""
    seen = [_changed_at(path) for path in (directory / LOCK, *directory.glob(f"{FILE}*"))]
    if not any(seen):
        return None
    return LastRun(record=run_record(directory), seen_at=max(seen))


def run_record(directory: Path) -> RunRecord | None:
    """Return the record in `directory`; None if there is none, or one that cannot be read."""
    try:
        return msgspec.json.decode(files.read(directory / LOCK, limit=RECORD_BYTES), type=RunRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextmanager
def recorded_run(
    directory: Path | None, *, config: Path | None, config_hash: str, overrides: Mapping[str, object]
) -> Iterator[None]:
    """Record in `directory`, which this process has locked, that it runs; and, if the context ends well, that it ended.

    Does nothing without a directory. A record that cannot be written is logged.
    """
    if directory is None:
        yield
        return
    record = RunRecord(
        state="running",
        pid=os.getpid(),
        began_ticks=began_ticks(os.getpid()),
        version=__version__,
        config=None if config is None else str(config.absolute()),
        config_hash=config_hash,
        overrides={name: value for name, value in overrides.items() if value is not None},
        started_at=rfc3339(time.time()),
    )
    _write(directory, record)
    yield
    _write(directory, msgspec.structs.replace(record, state="ended", ended_at=rfc3339(time.time())))


def began_ticks(pid: int) -> int | None:
    """Return when the process `pid` was started, in clock ticks since the boot; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19])  # field 22 of proc(5); the first two are before the closing parenthesis


def is_locked(directory: Path) -> bool:
    """Return whether a process has locked `directory`."""
    try:
        with (directory / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _write(directory: Path, record: RunRecord) -> None:
    """Write into the file that is locked: replacing it would take the lock away."""
    content = msgspec.json.encode(record) + b"\n"
    try:
        descriptor = files.open_private(directory / LOCK)
        try:
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)
    except OSError as error:  # such as a full disk: no reason not to run
        log.warning("the lock file could not be written", file=str(directory / LOCK), error=str(error))


def _changed_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
