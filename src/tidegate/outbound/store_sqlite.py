"""Last good values on disk: SQLite in WAL mode, written by one thread, off the event loop.

What `save` takes is merged by type and key and written in one transaction at least once in `WRITE_EVERY_S`. A commit
survives a kill at any moment (SQLite, "Write-Ahead Logging"). The directory is locked, so that two gateways never share
it, and only the gateway's user may read its files. A file that cannot be read as ours is set aside, never deleted, and
the gateway starts without it.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import structlog

from tidegate import files
from tidegate.errors import StoreError
from tidegate.ports import SavedValue

WRITE_EVERY_S = 0.25
RETRY_S = 1.0
"""How long a failed write rests; what it held is merged with what has come since."""

FILE = "values.sqlite3"
LOCK = "lock"
APPLICATION_ID = 0x54494445
"""Marks our files ("TIDE" in ASCII), so that another program's database is never taken for one."""

MIGRATIONS = (
    """
    CREATE TABLE last_good (
        type TEXT NOT NULL,
        key TEXT NOT NULL,
        data BLOB NOT NULL,
        as_of REAL NOT NULL,
        PRIMARY KEY (type, key)
    ) WITHOUT ROWID;
    """,
)
"""What leads from each schema version to the next; the version is kept in ``user_version``."""

_UPSERT = "INSERT OR REPLACE INTO last_good (type, key, data, as_of) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM last_good WHERE type = ? AND key = ?"

log = structlog.get_logger("tidegate.store")


class SqliteStore:
    """The store of one gateway. Made by `open`; `aclose` ends its thread and releases the directory."""

    def __init__(self, connection: sqlite3.Connection, lock: int) -> None:
        self._connection = connection
        self._lock = lock
        self._waiting: dict[tuple[str, str], SavedValue | None] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._writer = threading.Thread(target=self._write_on, name="tidegate-store", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Lock `directory`, making it if need be, and open what lies in it.

        Raises `StoreError` if another gateway holds it, or it cannot be made or written. Cancelling waits for the disk
        and leaves nothing open.
        """
        opening = asyncio.ensure_future(asyncio.to_thread(cls._open, directory))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError):
                await (await opening).aclose()
            raise

    async def load(self) -> Sequence[SavedValue]:
        """Everything that is on disk. Call it before the first `save`."""
        return await asyncio.to_thread(self._load)

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """Take values to write and names to forget; returns at once."""
        with self._changed:
            for value in values:
                self._waiting[value.type, value.key] = value
            for name in gone:
                self._waiting[name] = None
            self._changed.notify()

    async def aclose(self) -> None:
        """Write what is waiting, then release the directory."""
        await asyncio.to_thread(self._close)

    @classmethod
    def _open(cls, directory: Path) -> Self:
        try:
            files.make_directory(directory)
            lock = files.open_private(directory / LOCK)
        except OSError as error:
            got = f"{directory}: {_with_name(error, directory)}"
            raise StoreError(f"expected a directory that can be written, got {got} (server.state_dir)") from error
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                connection = _connect(directory / FILE)
            except BlockingIOError as error:
                raise StoreError(f"another gateway uses {directory}: give each its own server.state_dir") from error
            except (OSError, sqlite3.Error) as error:
                got = _with_name(error, directory) if isinstance(error, OSError) else str(error)
                raise StoreError(f"expected a database that can be written in {directory}, got {got}") from error
            undo.callback(connection.close)
            store = cls(connection, lock)
            undo.pop_all()
            return store

    def _load(self) -> list[SavedValue]:
        with self._changed:
            rows = self._connection.execute("SELECT type, key, data, as_of FROM last_good").fetchall()
        return [SavedValue(*row) for row in rows]

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join()
        self._connection.close()
        os.close(self._lock)

    def _write_on(self) -> None:
        """The writer thread: until closed, and then once more for what is left."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                closing = self._closing
                batch, self._waiting = self._waiting, {}
            if not self._write(batch) and not closing:
                with self._changed:
                    self._waiting = batch | self._waiting
                time.sleep(RETRY_S)
            if closing:
                return
            time.sleep(WRITE_EVERY_S)

    def _write(self, batch: dict[tuple[str, str], SavedValue | None]) -> bool:
        try:
            with self._connection:
                self._connection.executemany(
                    _UPSERT, [(v.type, v.key, v.data, v.as_of) for v in batch.values() if v is not None]
                )
                self._connection.executemany(_DELETE, [name for name, value in batch.items() if value is None])
        except sqlite3.Error as error:
            log.warning("last good values could not be written", values=len(batch), error=str(error))
            return False
        return True


def obstacle(directory: Path) -> str | None:
    """Why `SqliteStore.open` would refuse `directory`, without changing anything; None if it would not.

    Whether a gateway uses it is not looked at.
    """
    try:
        nearest = next(path for path in (directory, *directory.parents) if path.exists() or path.is_symlink())
    except OSError as error:
        return f"{directory} ({error.strerror})"
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return f"{directory} cannot be written ({nearest})"
    for name in (LOCK, FILE):
        if found := files.database_obstacle(directory / name):
            return f"{directory} with {found}"
    return None


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to our database at `path`; whatever else lies there is set aside first."""
    files.make_database_private(path)
    try:
        return _prepare(path)
    except sqlite3.OperationalError:
        raise  # the disk's or the system's fault, not the file's
    except (sqlite3.DatabaseError, _ForeignFile) as error:
        aside = _set_aside(path)
        log.warning("state file set aside", file=str(path), kept_as=str(aside), reason=str(error))
        files.make_database_private(path)
        return _prepare(path)


def _prepare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        _check(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    """Raise `_ForeignFile` or `sqlite3.DatabaseError` for anything but an empty file or a sound one of ours."""
    version = _pragma(connection, "user_version")
    is_new = _pragma(connection, "schema_version") == 0
    if not is_new and _pragma(connection, "application_id") != APPLICATION_ID:
        raise _ForeignFile("expected a database of Tidegate, got another program's")
    if version > len(MIGRATIONS):
        raise _ForeignFile(f"expected schema version {len(MIGRATIONS)} or older, got {version}")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _ForeignFile(f"expected a sound database: {verdict}")


def _migrate(connection: sqlite3.Connection) -> None:
    for version in range(_pragma(connection, "user_version"), len(MIGRATIONS)):
        connection.executescript(
            f"BEGIN; {MIGRATIONS[version]} PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {version + 1}; COMMIT;"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _set_aside(path: Path) -> Path:
    """Rename a database and its companions; the name that it has now."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.unreadable-{stamp}-{time.monotonic_ns()}")
    for suffix in files.DATABASE_COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _with_name(error: OSError, directory: Path) -> str:
    """What the operating system, or `files`, says, and of which file where that is not `directory` itself."""
    name = "" if error.filename in (None, str(directory)) else f"{Path(error.filename).name} "
    return f"{name}({error.strerror})"


class _ForeignFile(Exception):
    """A file that is not ours, or not sound."""
