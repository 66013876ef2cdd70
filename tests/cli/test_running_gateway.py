"""The process of a gateway is found by its state directory, and no other is signalled. Here, we are the process."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tidegate.cli import running_gateway
from tidegate.cli.run_record import recorded_run, run_record
from tidegate.cli.running_gateway import NotFound, found_process, state_directory
from tidegate.hangup import Hangups


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Gets a line for each SIGHUP of this process."""
    before = signal.getsignal(signal.SIGHUP)
    hangups, lines = Hangups(), list[str]()
    hangups.catch()
    with hangups.told_to(lambda: lines.append("SIGHUP")):
        yield lines
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tidegate.toml"
    path.touch()
    return path


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def changed(directory: Path, **fields: object) -> None:
    """Rewrite the record with other fields."""
    record = run_record(directory)
    assert record is not None
    (directory / "lock").write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **fields)))


@contextmanager
def running(directory: Path, config: Path | None) -> Iterator[None]:
    with locked(directory), recorded_run(directory, config=config, config_hash="", overrides={}):
        yield


def hang_up(directory: Path, config: Path) -> None:
    with found_process(directory, config) as process:
        process.hang_up()


def test_the_process_that_runs_is_signalled(tmp_path: Path, config: Path, told: list[str]) -> None:
    with running(tmp_path, config), found_process(tmp_path, config) as process:
        assert not process.has_ended()
        process.hang_up()
        assert (process.pid, told) == (os.getpid(), ["SIGHUP"])


def test_the_file_may_be_named_in_another_way(tmp_path: Path, config: Path, told: list[str]) -> None:
    (tmp_path / "link.toml").symlink_to(config)
    with running(tmp_path, config):
        hang_up(tmp_path, tmp_path / "link.toml")
        hang_up(tmp_path, Path(os.path.relpath(config)))
    assert len(told) == 2


def test_one_that_has_ended_is_not_signalled(tmp_path: Path, config: Path, told: list[str]) -> None:
    with pytest.raises(NotFound, match="no gateway uses"):
        hang_up(tmp_path, config)
    with running(tmp_path, config):
        pass
    with pytest.raises(NotFound, match="no gateway uses"):
        hang_up(tmp_path, config)
    assert told == []


def test_another_process_that_got_its_id_is_not_signalled(tmp_path: Path, config: Path, told: list[str]) -> None:
    with running(tmp_path, config):
        record = run_record(tmp_path)
        assert record is not None
        assert record.began_ticks is not None
        for ticks in (record.began_ticks - 1, None):
            changed(tmp_path, began_ticks=ticks)
            with pytest.raises(NotFound, match=r"is no `tidegate serve` of this machine.*--url"):
                hang_up(tmp_path, config)
        changed(tmp_path, began_ticks=record.began_ticks)
        hang_up(tmp_path, config)
    assert told == ["SIGHUP"]


def test_one_that_does_not_use_the_directory_is_not_signalled(tmp_path: Path, config: Path, told: list[str]) -> None:
    with (
        recorded_run(tmp_path, config=config, config_hash="", overrides={}),
        pytest.raises(NotFound, match="no gateway uses"),
    ):
        hang_up(tmp_path, config)
    assert told == []


def test_an_id_that_nobody_has(tmp_path: Path, config: Path) -> None:
    with running(tmp_path, config):
        changed(tmp_path, pid=2**22 + 1)
        with pytest.raises(NotFound):
            hang_up(tmp_path, config)


def test_what_locked_the_directory_may_be_another_program(tmp_path: Path, config: Path) -> None:
    with locked(tmp_path), pytest.raises(NotFound, match="is no `tidegate serve`"):
        hang_up(tmp_path, config)


@pytest.mark.parametrize(("file", "said"), [("other.toml", r"was started with .*other\.toml"), (None, "without a")])
def test_one_with_another_file_is_not_signalled(
    file: str | None, said: str, tmp_path: Path, config: Path, told: list[str]
) -> None:
    with running(tmp_path, None if file is None else tmp_path / file), pytest.raises(NotFound, match=said):
        hang_up(tmp_path, config)
    assert told == []


def test_a_link_to_itself_is_another_file(tmp_path: Path, config: Path, told: list[str]) -> None:
    (loop := tmp_path / "loop.toml").symlink_to(loop)
    with running(tmp_path, config), pytest.raises(NotFound, match=r"was started with .*tidegate\.toml"):
        hang_up(tmp_path, loop)
    assert told == []


@pytest.mark.parametrize(("error", "said"), [(PermissionError, "another user's"), (ProcessLookupError, "just ended")])
def test_one_that_cannot_be_signalled(
    error: type[OSError], said: str, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr("signal.pidfd_send_signal", refused)
    with running(tmp_path, config), pytest.raises(NotFound, match=said):
        hang_up(tmp_path, config)


class TestWhereItsStateIs:
    def test_where_the_file_says_if_nothing_else_is_known(self, tmp_path: Path, config: Path) -> None:
        assert state_directory(config, tmp_path / "state") == tmp_path / "state"
        assert state_directory(config, None) is None

    @pytest.mark.parametrize("named", [None, "elsewhere"])
    def test_where_a_process_has_it_that_began_with_this_file(
        self, named: str | None, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running_gateway, "_directories_in_use", lambda: iter([tmp_path / "none", tmp_path]))
        with running(tmp_path, config):
            assert state_directory(config, None if named is None else tmp_path / named) == tmp_path
        with running(tmp_path, tmp_path / "other.toml"):
            assert state_directory(config, Path("/named")) == Path("/named")
