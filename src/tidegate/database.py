"""A private SQLite database, in a directory that only one process at a time may use.

After a write has returned, its data survives a kill of the process (SQLite, "Write-Ahead Logging"). A file that is
damaged or not ours is set aside, never deleted, and a new one replaces it. Errors of SQLite and of the operating system
become `StoreError` here. The tables and statements belong to the callers. All functions do disk I/O and may block.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from tidegate import files
from tidegate.errors import StoreError, Unstorable

Change = tuple[str, Sequence[Sequence[object]]]
"""A statement, and the rows of parameters to execute it with."""


Synchronous = Literal["NORMAL", "FULL"]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The files and the schema of a database, and the words for it in messages.

    `file`, `lock`: file names within the directory.
    `application_id`: marks our files, so that a database of another program is never mistaken for ours.
    `migrations`: SQL scripts, each from one schema version to the next. The version is kept in ``user_version``.
    `synchronous`: SQLite's setting. With "FULL", a write also survives a power failure.
    `user`: what messages call the program that uses the directory. `setting`: what they call the option that names it.
    `own_directory`: refuse a directory of another user, and another user's link to a directory.
    """

    file: str
    lock: str
    application_id: int
    migrations: tuple[str, ...]
    synchronous: Synchronous
    user: str
    setting: str
    own_directory: bool = False


class SetAside(msgspec.Struct, frozen=True):
    """A file that was set aside: its original path, its new path, and why."""

    file: Path
    kept_as: Path
    reason: str


class Database:
    """An open database; made by `opened`. Calls may come from any thread and are executed one at a time."""

    def __init__(self, connection: sqlite3.Connection, lock: int | None, path: Path | None = None) -> None:
        self.connection = connection
        self._lock = lock
        self._path = path
        self._using = threading.Lock()

    @property
    def directory(self) -> Path | None:
        """Where its file is; None if it is in memory."""
        return None if self._path is None else self._path.parent

    def read(self, statement: str) -> list[Any]:
        """Execute `statement` and return all rows. Raises `StoreError`."""
        with self._using:
            try:
                return self.connection.execute(statement).fetchall()
            except sqlite3.Error as error:
                raise StoreError(str(error)) from error

    def write(self, *changes: Change, synchronous: Synchronous | None = None) -> None:
        """Execute all `changes` in one transaction, with SQLite's setting `synchronous` if that is given.

        A setting that is given also holds for later writes.

        Raises `StoreError` if it failed but may succeed later, `Unstorable` if SQLite cannot store one of the values.
        """
        with self._using:
            try:
                if synchronous is not None:
                    self.connection.execute(f"PRAGMA synchronous = {synchronous}")
                with self.connection:
                    for statement, rows in changes:
                        self.connection.executemany(statement, rows)
            # Raised for wrong types, integers of more than 64 bits, lone surrogates, and violated constraints.
            except (*_UNSTORABLE, ValueError, TypeError, OverflowError) as error:
                raise Unstorable(str(error)) from error
            except (sqlite3.Error, MemoryError) as error:
                raise StoreError(str(error)) from error

    def size_bytes(self) -> int:
        """Return the size of the database with its companion files; 0 in memory, and of what cannot be looked at."""
        if self._path is None:
            return 0
        names = (self._path.name + suffix for suffix in files.DATABASE_COMPANIONS)
        return sum(files.size_bytes(self._path.with_name(name)) for name in names)

    def close(self) -> None:
        """Close the database and release the directory."""
        with self._using:
            self.connection.close()
            if self._lock is not None:
                os.close(self._lock)


_UNSTORABLE = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


def opened(directory: Path, layout: Layout, *, set_aside: Callable[[SetAside], None]) -> Database:
    """Lock `directory`, making it if necessary, and open the database in it.

    `set_aside` is called if an unusable file was set aside. Raises `StoreError` if another process uses the directory,
    or if the directory cannot be made or written.
    """
    expected = "expected a directory that can be written, got"
    try:
        files.make_directory(directory)
        if layout.own_directory and not _is_ours(directory):
            raise StoreError(f"expected a directory of this user, got {directory}, which is another's")
        lock = files.open_private(directory / layout.lock)
    except OSError as error:
        raise StoreError(f"{expected} {directory}: {_described(error, directory)} ({layout.setting})") from error
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, lock)
        with _refused(directory, layout):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            database = Database(_connected(directory / layout.file, layout, set_aside), lock, directory / layout.file)
        undo.pop_all()
        return database


def in_memory(layout: Layout) -> Database:
    """Open a database in memory. Its content is lost when it is closed."""
    return Database(_prepared(":memory:", layout), None)


def _is_ours(directory: Path) -> bool:
    """Return whether `directory` belongs to this user. If it is a link, the link may also belong to root."""
    return directory.stat().st_uid == os.geteuid() and directory.lstat().st_uid in {os.geteuid(), 0}


@contextmanager
def _refused(directory: Path, layout: Layout) -> Iterator[None]:
    """Turn every error of locking or opening into a `StoreError`."""
    expected = f"expected a database that can be written in {directory}, got"
    try:
        yield
    except BlockingIOError as error:
        raise StoreError(f"another {layout.user} uses {directory}: give each its own {layout.setting}") from error
    except OSError as error:
        raise StoreError(f"{expected} {_described(error, directory)}") from error
    except sqlite3.Error as error:
        raise StoreError(f"{expected} {error}") from error


def _connected(path: Path, layout: Layout, set_aside: Callable[[SetAside], None]) -> sqlite3.Connection:
    """Connect to our database at `path`. Any other file there is set aside first."""
    files.make_database_private(path)
    try:
        return _prepared(path, layout)
    except sqlite3.OperationalError:
        raise  # the disk or the system failed; the file may be sound, so leave it in place
    except (sqlite3.DatabaseError, _ForeignFile) as error:
        set_aside(SetAside(path, _set_aside(path), str(error)))
        files.make_database_private(path)
        return _prepared(path, layout)


def _prepared(path: Path | str, layout: Layout) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        _check(connection, layout)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {layout.synchronous}")
        _migrate(connection, layout)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, layout: Layout) -> None:
    """Raise `_ForeignFile` or `sqlite3.DatabaseError`, unless the file is empty or an intact database of ours."""
    mark, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    is_new = _pragma(connection, "schema_version") == 0
    newest = len(layout.migrations)
    if not is_new and mark != layout.application_id:
        raise _ForeignFile("expected a database of Tidegate, got one of another program")
    if version > newest:
        raise _ForeignFile(f"expected schema version {newest} or older, got {version}")
    if not is_new and version < 1:
        raise _ForeignFile(f"expected a schema version from 1 to {newest}, got {version}")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _ForeignFile(f"expected an intact database: {verdict}")


def _migrate(connection: sqlite3.Connection, layout: Layout) -> None:
    for version in range(_pragma(connection, "user_version"), len(layout.migrations)):
        connection.executescript(
            f"BEGIN; {layout.migrations[version]} PRAGMA application_id = {layout.application_id};"
            f" PRAGMA user_version = {version + 1}; COMMIT;"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _set_aside(path: Path) -> Path:
    """Rename a database and its companion files. Return the new path of the database."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.unreadable-{stamp}-{time.monotonic_ns()}")
    for suffix in files.DATABASE_COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _described(error: OSError, directory: Path) -> str:
    """Describe `error`, with the name of the file that it concerns unless that is `directory` itself."""
    name = "" if error.filename in (None, str(directory)) else f"{Path(error.filename).name} "
    return f"{name}({error.strerror})"


class _ForeignFile(Exception):
    """A file that is not ours, or damaged."""
