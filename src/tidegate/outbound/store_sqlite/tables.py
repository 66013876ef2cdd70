"""The tables of the state file: their schema, and how values become rows and rows values.

Rows may have been edited by somebody, or damaged. What is read is checked before it is believed.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
from msgspec.structs import astuple

from tidegate.core.instant import EARLIEST, LATEST
from tidegate.core.payload import compact
from tidegate.database import Change, Layout, Synchronous
from tidegate.errors import InvalidResponse
from tidegate.ports import PublishedValue, SavedValue

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
    """
    CREATE TABLE published (
        type TEXT NOT NULL,
        key TEXT NOT NULL,
        data BLOB NOT NULL,
        timestamp REAL NOT NULL,
        ttl_s REAL,
        ends_at REAL,
        PRIMARY KEY (type, key)
    );
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


Table = Literal["last_good", "published"]

Name = tuple[Table, str, str]
"""A table, a type and a key."""

Batch = dict[Name, SavedValue | PublishedValue | None]
"""The changes to write, by name; None means to delete."""

NAMES = (
    "SELECT 'last_good', CAST(type AS BLOB), CAST(key AS BLOB) FROM last_good"
    " UNION ALL SELECT 'published', CAST(type AS BLOB), CAST(key AS BLOB) FROM published"
)
"""Selects what `names` takes. Texts are read as bytes: SQLite stores any, and a damaged one must not hide the rest."""

LAST_GOOD_ROWS = "SELECT CAST(type AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB), as_of FROM last_good"
"""Selects what `saved_value` takes."""

PUBLISHED_ROWS = (
    "SELECT CAST(type AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB), timestamp, ttl_s, ends_at FROM published"
    " ORDER BY rowid"
)
"""Selects what `published_value` takes, in the order in which it was written: many have one `timestamp`."""

_UPSERTS: dict[Table, str] = {
    "last_good": "INSERT OR REPLACE INTO last_good (type, key, data, as_of) VALUES (?, ?, ?, ?)",
    "published": "INSERT OR REPLACE INTO published (type, key, data, timestamp, ttl_s, ends_at)"
    " VALUES (?, ?, ?, ?, ?, ?)",
}
"""The columns of a table are the fields of its values, in their order."""

_DELETES: dict[Table, str] = {
    "last_good": "DELETE FROM last_good WHERE type = ? AND key = ?",
    "published": "DELETE FROM published WHERE type = ? AND key = ?",
}


class Malformed(msgspec.Struct, frozen=True):
    """A row that no store has written like that: its name, as far as it can be read, and what is wrong with it."""

    type: str
    key: str
    reason: str


def changes(batch: Batch) -> list[Change]:
    """Return the statements that write `batch`, and their parameters."""
    out: list[Change] = []
    for table, upsert in _UPSERTS.items():
        values = [astuple(value) for name, value in batch.items() if name[0] == table and value is not None]
        gone = [name[1:] for name, value in batch.items() if name[0] == table and value is None]
        out += [(upsert, values), (_DELETES[table], gone)]
    return out


def synchronous(batch: Batch) -> Synchronous:
    """Return SQLite's setting for writing `batch`.

    After a power failure, a backend is asked again. A publisher is not: its value must not be lost.
    """
    return "FULL" if any(name[0] == "published" for name in batch) else "NORMAL"


def names(rows: Iterable[tuple[Table, bytes, bytes]]) -> Iterator[Name]:
    """Return the names of the `rows` that a value may have. No other row is ever written or deleted."""
    for table, event_type, key in rows:
        with contextlib.suppress(UnicodeDecodeError):
            yield table, sys.intern(event_type.decode()), key.decode()


def saved_value(event_type: bytes, key: bytes, data: bytes, as_of: object) -> SavedValue | Malformed:
    """Return a row of `LAST_GOOD_ROWS` as a value."""
    try:
        return SavedValue(event_type.decode(), key.decode(), bytes(compact(data)), _moment(as_of))
    except (InvalidResponse, ValueError) as error:
        return _malformed(event_type, key, error)


def published_value(
    event_type: bytes, key: bytes, data: bytes, timestamp: object, ttl_s: object, ends_at: object
) -> PublishedValue | Malformed:
    """Return a row of `PUBLISHED_ROWS` as a value."""
    try:
        ends = [None if each is None else _number(each) for each in (ttl_s, ends_at)]
        return PublishedValue(event_type.decode(), key.decode(), compact(data), _moment(timestamp), *ends)
    except (InvalidResponse, ValueError) as error:
        return _malformed(event_type, key, error)


def _moment(value: object) -> float:
    """Return `value` if it is a time that events can show: there is none before the year 1, or after 9999."""
    moment = _number(value)
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(f"expected Unix seconds from {EARLIEST:.0f} to {LATEST:.0f}, got {moment:g}")
    return moment


def _number(value: object) -> float:
    if not isinstance(value, float):
        raise ValueError(f"expected a number, got {str(value)[:80]!r}")
    return value


def _malformed(event_type: bytes, key: bytes, error: Exception) -> Malformed:
    shown = [each[:200].decode(errors="replace") for each in (event_type, key)]
    return Malformed(shown[0], shown[1], str(error))
