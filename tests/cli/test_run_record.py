import fcntl
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tidegate.cli.run_record import began_ticks, is_locked, last_run, recorded_run, run_record
from tidegate.database import opened
from tidegate.outbound.store_sqlite.tables import LAYOUT

CONFIG = Path("/etc/tidegate.toml")


def run(directory: Path, config: Path | None = CONFIG):  # type: ignore[no-untyped-def]
    return recorded_run(directory, config=config, config_hash="abc", overrides={"server.port": 0, "server.host": None})


def test_it_says_that_it_runs_and_then_that_it_ended(tmp_path: Path) -> None:
    with run(tmp_path):
        record = run_record(tmp_path)
        assert record is not None
        assert (record.state, record.pid, record.ended_at) == ("running", os.getpid(), None)
        assert (record.config, record.config_hash, record.overrides) == (str(CONFIG), "abc", {"server.port": 0})
        assert record.began_ticks == began_ticks(os.getpid())
    ended = run_record(tmp_path)
    assert ended is not None
    assert (ended.state, ended.pid) == ("ended", os.getpid())
    assert ended.ended_at is not None
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_one_that_fails_has_not_ended_well(tmp_path: Path) -> None:
    with pytest.raises(LookupError), run(tmp_path):
        raise LookupError
    last = last_run(tmp_path)
    assert last is not None
    assert last.ended_well is False
    with run(tmp_path):
        pass
    last = last_run(tmp_path)
    assert last is not None
    assert last.ended_well


def test_the_lock_is_kept_while_the_record_changes(tmp_path: Path) -> None:
    database = opened(tmp_path, LAYOUT, set_aside=lambda _: None)
    with run(tmp_path):
        assert is_locked(tmp_path)
    assert is_locked(tmp_path)
    database.close()
    assert not is_locked(tmp_path)


def test_a_relative_file_is_named_whole(tmp_path: Path) -> None:
    with run(tmp_path, Path("a.toml")):
        record = run_record(tmp_path)
    assert record is not None
    assert record.config == str(Path.cwd() / "a.toml")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state":"running"}', b"\xff\xfe", b"x" * 100_000])
def test_what_is_no_record_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert run_record(tmp_path) is None
    last = last_run(tmp_path)
    assert last is not None
    assert last.ended_well is None
    with run(tmp_path):
        assert run_record(tmp_path) is not None


def test_where_nothing_ran_there_is_no_last_run(tmp_path: Path) -> None:
    assert last_run(tmp_path) is None
    assert last_run(tmp_path / "nowhere") is None
    assert not is_locked(tmp_path)


def test_it_was_last_seen_when_it_last_wrote_anything(tmp_path: Path) -> None:
    for name, at in {"lock": 1000.0, "values.sqlite3": 2000.0, "values.sqlite3-wal": 3000.0, "else": 4000.0}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    last = last_run(tmp_path)
    assert last is not None
    assert last.seen_at == 3000.0


def test_a_record_that_cannot_be_written_is_no_reason_not_to_run(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with capture_logs() as logs, run(tmp_path):
        assert logs[0]["event"] == "the lock file could not be written"
    assert not (tmp_path / "elsewhere").exists()


def test_without_a_directory_nothing_is_recorded() -> None:
    with recorded_run(None, config=None, config_hash="", overrides={}):
        pass


def test_a_process_that_is_none_has_no_beginning() -> None:
    assert began_ticks(2**22 + 1) is None


def test_another_lock_is_seen(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
