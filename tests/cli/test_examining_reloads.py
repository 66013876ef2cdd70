"""What the doctor says of a gateway that may have another configuration than its file."""

import fcntl
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from records import HASH, LOADED, FakeReloads
from serving import GRANTS, serving

from tidegate.cli.environment import LOG_LEVEL, TOKEN, URL
from tidegate.cli.examining import examined
from tidegate.cli.examining_reloads import WHAT
from tidegate.cli.findings import Finding, Level
from tidegate.cli.reload_record import ReloadRecord, write_record
from tidegate.cli.run_record import recorded_run, run_record
from tidegate.config import load
from tidegate.config.fingerprint import config_hash
from tidegate.core.access.grant import Grant
from tidegate.core.reloads import ReloadAttempt
from tidegate.errors import Problem

STATE = Path("state")
FILE = Path("tidegate.toml")
TEXT = '[server]\nport = 0\nallow_no_sources = true\nstate_dir = "state"\n'
AT = "2026-11-22T21:40:03.123Z"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file, and a state directory that a process uses which was started with it."""
    monkeypatch.chdir(tmp_path)
    for name in (URL, TOKEN, LOG_LEVEL):
        monkeypatch.delenv(name, raising=False)
    FILE.write_text(TEXT)
    STATE.mkdir()
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def now() -> str:
    return config_hash(load(FILE, environ={}))


def began(config_hash: str, *, file: Path = FILE, overrides: Mapping[str, object] = {}) -> None:
    with pytest.raises(LookupError), recorded_run(STATE, config=file, config_hash=config_hash, overrides=overrides):
        raise LookupError  # so that nothing says that it has ended


def reloaded(
    config_hash: str, *, pid: int | None = None, problems: int = 0, needs_restart: tuple[str, ...] = ()
) -> None:
    run = run_record(STATE)
    assert run is not None
    record = ReloadRecord(
        pid=run.pid if pid is None else pid,
        began=0.0,
        at=AT,
        outcome="refused" if problems else "changed",
        answer=None,
        problems=(Problem("server.port", "a number", "text"),) * problems,
        config_hash=config_hash,
        needs_restart=needs_restart,
    )
    write_record(STATE, record)


async def found() -> list[Finding]:
    return [finding async for finding in examined(FILE, None) if finding.what == WHAT]


async def test_one_that_runs_with_the_file() -> None:
    began(now())
    [finding] = await found()
    assert finding.level is Level.OK


async def test_one_whose_file_was_changed() -> None:
    began(now())
    FILE.write_text(f"{TEXT}[limits]\npatterns = 3\n")
    [finding] = await found()
    assert finding.level is Level.WARN
    assert "tidegate reload" in finding.remedy
    reloaded(now())
    [finding] = await found()
    assert (finding.level, AT in finding.found) == (Level.OK, True)


async def test_a_record_of_another_run_says_nothing() -> None:
    began(now())
    reloaded("another", pid=1)
    [finding] = await found()
    assert finding.level is Level.OK


async def test_options_of_its_command_line_are_no_difference() -> None:
    overrides = {"server.host": "localhost"}
    began(config_hash(load(FILE, environ={}, overrides=overrides)), overrides=overrides)
    [finding] = await found()
    assert finding.level is Level.OK


async def test_a_refused_reload_is_told_with_its_problems() -> None:
    began(now())
    reloaded("before", problems=2)
    [finding] = await found()
    assert finding.level is Level.WARN
    assert finding.found.count("server.port: expected a number, got text") == 2


async def test_what_needs_a_restart_is_told() -> None:
    began("before")
    reloaded(now(), needs_restart=("server.port", "server.host"))
    [finding] = await found()
    assert finding.level is Level.WARN
    assert "server.port, server.host" in finding.found
    assert "restart" in finding.remedy


async def test_nothing_is_said_of_one_with_another_file_or_none() -> None:
    assert await found() == []
    began("other", file=Path("other.toml"))
    assert await found() == []
    with recorded_run(STATE, config=FILE, config_hash="other", overrides={}):
        pass
    assert await found() == []


class TestOneThatIsAsked:
    """It has no state directory here, and says at its address what it has."""

    LAST = ReloadAttempt(
        began=LOADED, ended=LOADED, outcome="refused", problems=(Problem("server.port", "a number", "text"),)
    )

    @staticmethod
    async def found(reloads: FakeReloads | None, **grants: Grant) -> list[Finding]:
        async with serving(grants=grants or None, reloads=reloads) as gate:
            FILE.write_text(f'[server]\nport = {gate.port}\nallow_no_sources = true\nstate_dir = ""\n')
            if reloads is not None and reloads.config_hash == HASH:
                reloads.config_hash = now()
            return await found()

    async def test_one_with_the_file(self) -> None:
        [finding] = await self.found(FakeReloads())
        assert finding.level is Level.OK

    async def test_one_with_another(self) -> None:
        [finding] = await self.found(FakeReloads(config_hash="other"))
        assert (finding.level, "tidegate reload" in finding.remedy) == (Level.WARN, True)

    async def test_one_that_refused_the_file_and_needs_a_restart(self) -> None:
        refused, restart = await self.found(FakeReloads(last=self.LAST, needs_restart=("server.port",)))
        assert (refused.level, restart.level) == (Level.WARN, Level.WARN)
        assert "1 problem(s)" in refused.found
        assert "server.port" in restart.found

    async def test_one_that_does_not_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert await self.found(None) == []
        assert await self.found(FakeReloads(), **GRANTS) == []
        monkeypatch.setenv(TOKEN, "system")
        assert await self.found(FakeReloads(), **GRANTS) == []
        monkeypatch.setenv(TOKEN, "all")
        assert len(await self.found(FakeReloads(), **GRANTS)) == 1
