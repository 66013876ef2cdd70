"""A database of our own: what each store is promised. Opening is tested with the two stores as well."""

import sqlite3
from pathlib import Path

import pytest

from tidegate import database
from tidegate.database import Layout, SetAside
from tidegate.errors import StoreError, Unstorable

LAYOUT = Layout(
    file="things.sqlite3",
    lock="lock",
    application_id=0x54455354,
    migrations=("CREATE TABLE thing (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;",),
    synchronous="NORMAL",
    user="test",
    setting="--things",
)
INSERT = "INSERT INTO thing VALUES (?, ?)"
ALL = "SELECT name, size FROM thing"


def refuse_to_set_aside(aside: SetAside) -> None:
    raise AssertionError(aside)


def things_in(directory: Path, layout: Layout = LAYOUT) -> list[tuple[str, int]]:
    things = database.opened(directory, layout, set_aside=refuse_to_set_aside)
    try:
        return things.read(ALL)
    finally:
        things.close()


def test_all_changes_are_made_or_none() -> None:
    things = database.in_memory(LAYOUT)
    things.write((INSERT, [("a", 1)]))
    with pytest.raises(Unstorable):
        things.write(("DELETE FROM thing", [()]), (INSERT, [("b", 2), ("c", None)]))
    assert things.read(ALL) == [("a", 1)]
    things.close()


@pytest.mark.parametrize("size", [None, 2**64, object()], ids=["nothing", "65 bits", "another type"])
def test_a_value_that_cannot_be_stored_is_told_from_a_write_that_failed(size: object) -> None:
    things = database.in_memory(LAYOUT)
    with pytest.raises(Unstorable):
        things.write((INSERT, [("a", size)]))
    things.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError) as failed:
        things.write((INSERT, [("a", 1)]))
    assert not isinstance(failed.value, Unstorable)
    things.close()


def test_what_cannot_be_read_is_a_store_error() -> None:
    things = database.in_memory(LAYOUT)
    with pytest.raises(StoreError, match="no such table: other"):
        things.read("SELECT * FROM other")
    things.close()


def test_each_migration_is_made_once(tmp_path: Path) -> None:
    things = database.opened(tmp_path, LAYOUT, set_aside=refuse_to_set_aside)
    things.write((INSERT, [("a", 1)]))
    things.close()
    newer = Layout(
        **{name: getattr(LAYOUT, name) for name in LAYOUT.__struct_fields__ if name != "migrations"},
        migrations=(*LAYOUT.migrations, "UPDATE thing SET size = size + 1;"),
    )
    assert things_in(tmp_path, newer) == [("a", 2)]
    assert things_in(tmp_path, newer) == [("a", 2)]


def test_a_file_of_our_mark_with_no_version_of_ours_is_set_aside(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / LAYOUT.file)
    connection.execute(f"PRAGMA application_id = {LAYOUT.application_id}")
    connection.execute("CREATE TABLE thing (x)")
    connection.close()
    told: list[SetAside] = []
    database.opened(tmp_path, LAYOUT, set_aside=told.append).close()
    [aside] = told
    assert (aside.file, aside.kept_as.exists()) == (tmp_path / LAYOUT.file, True)
    assert aside.reason == "expected a schema version from 1 to 1, got 0"
    assert things_in(tmp_path) == []


def test_messages_name_the_program_and_its_setting(tmp_path: Path) -> None:
    first = database.opened(tmp_path, LAYOUT, set_aside=refuse_to_set_aside)
    with pytest.raises(StoreError, match=f"^another test uses {tmp_path}: give each its own --things$"):
        things_in(tmp_path)
    first.close()
    (tmp_path / "file").touch()
    with pytest.raises(
        StoreError, match=r"expected a directory that can be written, got .*Not a directory\) \(--things\)"
    ):
        things_in(tmp_path / "file")
