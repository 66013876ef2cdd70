"""The file in the state directory that says what came of the last reload: for `tidegate reload`, which waits for it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from tidegate import files
from tidegate.core.instant import Time, rfc3339
from tidegate.core.reloads import ReloadAttempt, Reloaded, ReloadOutcome
from tidegate.errors import Problem

FILE = "last_reload.json"

RECORD_BYTES = 16 * 1024 * 1024
"""Limit on a record: a configuration with that many problems is none."""

log = structlog.get_logger("tidegate.reload")


class ReloadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. `began` is before the file was read, on the kernel's boot-time clock, in seconds.

    `answer` is what the route would have answered; None if `problems` kept the configuration from being put in force.
    `config_hash` and `needs_restart` belong to the configuration that is in force since then.
    """

    pid: int
    began: float
    at: Time
    outcome: ReloadOutcome
    answer: Reloaded | None
    problems: tuple[Problem, ...]
    config_hash: str
    needs_restart: tuple[str, ...]


class Standing(Protocol):
    """The part of `tidegate.reloading.Reloads` that is recorded with an attempt."""

    @property
    def config_hash(self) -> str: ...

    @property
    def needs_restart(self) -> tuple[str, ...]: ...


def record_of(attempt: ReloadAttempt, standing: Standing) -> ReloadRecord:
    """Make the record of an attempt of this process, after which things are as `standing` says."""
    return ReloadRecord(
        pid=os.getpid(),
        began=attempt.began.mono,
        at=rfc3339(attempt.ended.wall),
        outcome=attempt.outcome,
        answer=attempt.reloaded,
        problems=attempt.problems,
        config_hash=standing.config_hash,
        needs_restart=standing.needs_restart,
    )


def last_reload(directory: Path) -> ReloadRecord | None:
    """Return the record in `directory`; None if there is none, or one that cannot be read."""
    try:
        return msgspec.json.decode(files.read(directory / FILE, limit=RECORD_BYTES), type=ReloadRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write_record(directory: Path, record: ReloadRecord) -> None:
    """Write the record, for this user only. Readers see either the one before or this one. Raises `OSError`."""
    path = directory / FILE
    new = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()  # of a process that was killed; and not to be written through, if it is a link
    descriptor = files.open_private(new)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(record) + b"\n")
    finally:
        os.close(descriptor)
    new.replace(path)


@asynccontextmanager
async def recording_reloads(
    directory: Path | None, standing: Standing
) -> AsyncIterator[Callable[[ReloadAttempt], None]]:
    """Yield what writes a record of each attempt into `directory`, in another thread. Leaving waits until it has.

    A record that cannot be written is logged. Without a directory, nothing is recorded.
    """
    if directory is None:
        yield lambda _: None
        return
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tidegate-reload") as thread:

        def record(attempt: ReloadAttempt) -> None:
            loop.run_in_executor(thread, partial(_write_or_log, directory, record_of(attempt, standing)))

        yield record


def _write_or_log(directory: Path, record: ReloadRecord) -> None:
    try:
        write_record(directory, record)
    except OSError as error:
        log.warning("the record of a reload could not be written", file=str(directory / FILE), error=str(error))
