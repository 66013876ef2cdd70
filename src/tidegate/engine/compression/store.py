"""Jobs on disk: SQLite, one row per job, in a directory that one engine at a time may use, readable by its user alone.

What a call has written survives a kill of the engine and of the machine. A file that cannot be read as ours is set
aside, never deleted, and the engine starts without it.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from tidegate import files
from tidegate.engine.compression.jobs import Record
from tidegate.engine.threads import in_thread
from tidegate.errors import StoreError

T = TypeVar("T")

FILE = "jobs.sqlite3"
APPLICATION_ID = 0x54454E47
"""Marks our files ("TENG" in ASCII), so that another program's database is never taken for one."""

SCHEMA_VERSION = 1
_SCHEMA = "CREATE TABLE jobs (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;"
_UPSERT = "INSERT OR REPLACE INTO jobs (id, record) VALUES (?, ?)"

log = structlog.get_logger("tidegate.engine")


class JobStore:
    """The jobs of one engine. Calls are carried out one after another, in their order, off the event loop."""

    def __init__(self, connection: sqlite3.Connection, lock: int | None) -> None:
        self._connection = connection
        self._lock = lock
        self._turn = asyncio.Lock()
        self._using = threading.Lock()  # a cancelled call goes on in its thread

    async def load(self) -> Sequence[Record]:
        """All jobs; those that a newer engine wrote, or nobody can read, are left out with a warning."""
        return await self._do(self._load)

    async def save(self, *records: Record) -> None:
        """Write jobs, all or none. Raises `StoreError`."""
        rows = [(record.id, msgspec.json.encode(record)) for record in records]
        await self._do(partial(self._write, _UPSERT, rows))

    async def forget(self, jobs: Iterable[str]) -> None:
        """Remove jobs. Raises `StoreError`."""
        await self._do(partial(self._write, "DELETE FROM jobs WHERE id = ?", [(job,) for job in jobs]))

    async def aclose(self) -> None:
        """End what is being written, then release the directory. Cancelling does not stop it."""
        await asyncio.shield(self._do(self._close))

    async def _do(self, work: Callable[[], T]) -> T:
        def alone() -> T:
            with self._using:
                return work()

        async with self._turn:
            return await in_thread(alone)

    def _load(self) -> list[Record]:
        records = []
        for job, raw in self._connection.execute("SELECT id, record FROM jobs"):
            try:
                records.append(msgspec.json.decode(raw, type=Record))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.warning(f"job {job} left out, it cannot be read: {error}")
        return records

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise StoreError(f"jobs cannot be kept: {error}") from error

    def _close(self) -> None:
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)


@asynccontextmanager
async def opened(directory: Path | None) -> AsyncIterator[JobStore]:
    """The store in `directory`, which is made if need be and locked; in memory alone if it is None.

    Raises `StoreError` if another engine uses the directory, or it cannot be made or written.
    """
    store = JobStore(*await in_thread(partial(_open, directory)))
    try:
        yield store
    finally:
        await store.aclose()


def _open(directory: Path | None) -> tuple[sqlite3.Connection, int | None]:
    if directory is None:
        return _prepared(":memory:"), None
    try:
        files.make_directory(directory)
        # The default may lie in a temporary folder, where anybody can put a link to a directory of this user.
        if directory.stat().st_uid != os.geteuid() or directory.lstat().st_uid not in {os.geteuid(), 0}:
            raise StoreError(f"expected a directory of this user, got {directory}, which is another's")
        lock = files.open_private(directory / "engine.lock")
    except OSError as error:
        got = f"{error.filename or directory}: {error.strerror}"
        raise StoreError(f"expected a directory that can be written, got {got}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _connected(directory / FILE), lock
    except BlockingIOError as error:
        os.close(lock)
        raise StoreError(f"another engine uses {directory}: give each its own --state-dir") from error
    except OSError as error:
        os.close(lock)
        raise StoreError(f"expected a database that can be written, got {error.filename}: {error.strerror}") from error
    except sqlite3.Error as error:
        os.close(lock)
        raise StoreError(f"expected a database that can be written in {directory}: {error}") from error


def _connected(path: Path) -> sqlite3.Connection:
    files.make_database_private(path)
    try:
        return _prepared(path)
    except sqlite3.OperationalError:
        raise  # the disk's or the system's fault, not the file's
    except (sqlite3.DatabaseError, _ForeignFile) as error:
        aside = path.with_name(f"{path.name}.unreadable-{time.time_ns()}")
        for suffix in files.DATABASE_COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        log.warning(f"{path} set aside as {aside.name}: {error}")
        files.make_database_private(path)
        return _prepared(path)


def _prepared(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        if _pragma(connection, "schema_version") == 0:
            connection.executescript(
                f"PRAGMA journal_mode = WAL; BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        _check(connection)
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    found = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if found != (APPLICATION_ID, SCHEMA_VERSION):
        raise _ForeignFile(f"expected our mark and version {(APPLICATION_ID, SCHEMA_VERSION)}, got {found}")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _ForeignFile(f"expected a sound database: {verdict}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


class _ForeignFile(Exception):
    """A file that is not ours, or not sound."""
