import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tidegate.cli import reload_record
from tidegate.cli.reload_record import last_reload, recording_reloads, write_record
from tidegate.core.instant import Instant
from tidegate.core.reloads import ChangedNames, ReloadAttempt, Reloaded
from tidegate.errors import Problem

ANSWER = Reloaded(changed=ChangedNames(added=("sources.s",)), unchanged=2, needs_restart=(), config_hash="abc")
DONE = ReloadAttempt(
    began=Instant(5.5, 1_795_383_603.0), ended=Instant(6.0, 1_795_383_603.123), outcome="changed", reloaded=ANSWER
)
REFUSED = ReloadAttempt(
    began=DONE.began, ended=DONE.ended, outcome="refused", problems=(Problem("server.port", "a number", "text"),)
)


class Standing:
    config_hash = "abc"
    needs_restart = ("server.port",)


async def test_each_attempt_is_recorded(tmp_path: Path) -> None:
    async with recording_reloads(tmp_path, Standing()) as record:
        record(DONE)
        record(REFUSED)
    found = last_reload(tmp_path)
    assert found is not None
    assert (found.pid, found.began, found.at) == (os.getpid(), 5.5, "2026-11-22T21:40:03.123Z")
    assert (found.outcome, found.answer, found.problems) == ("refused", None, REFUSED.problems)
    assert (found.config_hash, found.needs_restart) == ("abc", ("server.port",))
    async with recording_reloads(tmp_path, Standing()) as record:
        record(DONE)
    found = last_reload(tmp_path)
    assert found is not None
    assert (found.outcome, found.answer, found.problems) == ("changed", ANSWER, ())
    assert [path.name for path in tmp_path.iterdir()] == ["last_reload.json"]


async def test_only_this_user_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with recording_reloads(tmp_path, Standing()) as record:
            record(DONE)
    finally:
        os.umask(before)
    assert (tmp_path / "last_reload.json").stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("mine")
    (tmp_path / "last_reload.new").symlink_to("diary")
    (tmp_path / "last_reload.json").symlink_to("diary")
    write_record(tmp_path, reload_record.record_of(DONE, Standing()))
    assert (tmp_path / "diary").read_text() == "mine"
    assert last_reload(tmp_path) is not None


async def test_a_record_that_cannot_be_written_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tidegate.files.open_private", full)
    with capture_logs() as logs:
        async with recording_reloads(tmp_path, Standing()) as record:
            record(DONE)
    [line] = logs
    assert line["event"] == "the record of a reload could not be written"
    assert "No space left" in line["error"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_record_is_none(tmp_path: Path, content: bytes) -> None:
    assert last_reload(tmp_path) is None
    (tmp_path / "last_reload.json").write_bytes(content)
    assert last_reload(tmp_path) is None


async def test_without_a_directory_nothing_is_recorded() -> None:
    async with recording_reloads(None, Standing()) as record:
        record(DONE)
