"""Keeps last good values in SQLite, written by a thread of its own so that the event loop never waits for the disk.

Saved values are merged by type and key, and written in one transaction every `WRITE_EVERY_S`. The directory is locked,
so that two gateways cannot share it. `tidegate.database` opens the file, keeps it private, and sets a bad one aside.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import structlog

from tidegate import files
from tidegate.database import Change, Database, Layout, SetAside, opened
from tidegate.errors import StoreError, Unstorable
from tidegate.ports import SavedValue

WRITE_EVERY_S = 0.25
"""The pause between two transactions. The port allows 1 second until a value is on disk."""

RETRY_S = 1.0
"""The delay before a failed write is retried, together with the values saved since."""

FILE = "values.sqlite3"
LOCK = "lock"
APPLICATION_ID = 0x54494445
"""SQLite's application id of Tidegate's files: "TIDE" in ASCII."""

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
LAYOUT = Layout(
    file=FILE,
    lock=LOCK,
    application_id=APPLICATION_ID,
    migrations=MIGRATIONS,
    synchronous="NORMAL",
    user="gateway",
    setting="server.state_dir",
)

_UPSERT = "INSERT OR REPLACE INTO last_good (type, key, data, as_of) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM last_good WHERE type = ? AND key = ?"

_Batch = dict[tuple[str, str], SavedValue | None]
"""The changes to write, by type and key; None means to delete."""

log = structlog.get_logger("tidegate.store")


class SqliteStore:
    """Implements `tidegate.ports.Store`. Made by `open`; `aclose` ends its thread and releases the directory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: _Batch = {}
        self._changed = threading.Condition()
        self._closing = False
        self._writer = threading.Thread(target=self._write_on, name="tidegate-store", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Lock `directory`, which is created if missing, and open the store in it.

        Raises `StoreError` if another gateway uses the directory, or if it cannot be created or written. If cancelled,
        it waits for the disk and leaves nothing open.
        """
        opening = asyncio.ensure_future(asyncio.to_thread(cls._open, directory))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError):
                await (await opening).aclose()
            raise

    async def load(self) -> Sequence[SavedValue]:
        """Return all values on disk. Call this before the first `save`."""
        return await asyncio.to_thread(self._load)

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """See `tidegate.ports.Store`. Returns immediately."""
        with self._changed:
            for value in values:
                self._waiting[value.type, value.key] = value
            for name in gone:
                self._waiting[name] = None
            self._changed.notify()

    async def aclose(self) -> None:
        """Write everything that is queued, then release the directory."""
        await asyncio.to_thread(self._close)

    @classmethod
    def _open(cls, directory: Path) -> Self:
        database = opened(directory, LAYOUT, set_aside=_tell)
        try:
            return cls(database)
        except BaseException:  # the thread could not be started
            database.close()
            raise

    def _load(self) -> list[SavedValue]:
        return [SavedValue(*row) for row in self._database.read("SELECT type, key, data, as_of FROM last_good")]

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join()
        self._database.close()

    def _write_on(self) -> None:
        """The writer thread: writes until closed, and then once more what is left."""
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

    def _write(self, batch: _Batch) -> bool:
        """Write `batch`. Returns False if it should be retried.

        A value that can never be stored is dropped with a warning, since no retry would help.
        """
        try:
            self._database.write(*_changes(batch))
        except Unstorable:
            return self._write_one_by_one(batch)
        except StoreError as error:
            log.warning("last good values could not be written", values=len(batch), error=str(error))
            return False
        return True

    def _write_one_by_one(self, batch: _Batch) -> bool:
        """Write each change separately, so that one that cannot be stored does not block all others."""
        is_whole = True
        for name in list(batch):
            try:
                self._database.write(*_changes({name: batch[name]}))
            except Unstorable as error:
                del batch[name]  # do not retry it with the others
                log.warning(
                    "last good value left out, it cannot be stored", type=name[0], key=name[1], error=str(error)
                )
            except StoreError as error:
                log.warning("last good value could not be written", type=name[0], key=name[1], error=str(error))
                is_whole = False
        return is_whole


def obstacle(directory: Path) -> str | None:
    """Return why `SqliteStore.open` would refuse `directory`, or None. Changes nothing.

    Does not check whether another gateway uses the directory.
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


def _changes(batch: _Batch) -> tuple[Change, Change]:
    values = [(value.type, value.key, value.data, value.as_of) for value in batch.values() if value is not None]
    return (_UPSERT, values), (_DELETE, [name for name, value in batch.items() if value is None])


def _tell(aside: SetAside) -> None:
    log.warning("state file set aside", file=str(aside.file), kept_as=str(aside.kept_as), reason=aside.reason)
