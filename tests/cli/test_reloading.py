"""The command ``reload``, with a gateway that the test plays."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from records import DONE, HASH, PROBLEMS, FakeReloads
from serving import GRANTS, serving

from tidegate.cli import main, reloading
from tidegate.cli.environment import TOKEN, URL
from tidegate.cli.reload_record import ReloadRecord, write_record
from tidegate.cli.reloading import NoOutcome, Outcome, asked, printed, signalled
from tidegate.cli.running_gateway import GatewayProcess
from tidegate.config.loading import server_table
from tidegate.core.reloads import ChangedNames, Reloaded
from tidegate.errors import AccessRefused, ConfigError, NothingToReload, ReloadUnderWay, Unreachable

PID = 4711


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, no settings from the environment, and no waiting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0.0)
    for name in (URL, TOKEN):
        monkeypatch.delenv(name, raising=False)


def record(began: float, *, pid: int = PID, answer: Reloaded | None = DONE) -> ReloadRecord:
    return ReloadRecord(
        pid=pid,
        began=began,
        at="2026-11-22T21:40:03.123Z",
        outcome="refused" if answer is None else "changed",
        answer=answer,
        problems=PROBLEMS if answer is None else (),
        config_hash=HASH,
        needs_restart=(),
    )


class FakeProcess(GatewayProcess):
    """A process that does something when it is signalled, and ends when it has been looked at so many times."""

    def __init__(self, then: Callable[[], object] = lambda: None, *, ends_after: int = 1_000_000) -> None:
        super().__init__(PID, -1)
        self._then = then
        self._ends_after = ends_after

    def hang_up(self) -> None:
        self._then()

    def has_ended(self) -> bool:
        self._ends_after -= 1
        return self._ends_after < 0


class TestBySignal:
    @staticmethod
    def clock() -> Callable[[], float]:
        """A clock that goes on by a second each time it is read, and begins at 100."""
        readings = iter(range(100, 10_000))
        return lambda: float(next(readings))

    def test_the_record_that_comes_then_is_the_outcome(self, tmp_path: Path) -> None:
        process = FakeProcess(lambda: write_record(tmp_path, record(100.5)))
        assert signalled(process, tmp_path, now=self.clock()) == Outcome(answer=DONE)

    def test_a_refusal_has_all_problems(self, tmp_path: Path) -> None:
        process = FakeProcess(lambda: write_record(tmp_path, record(100.5, answer=None)))
        assert signalled(process, tmp_path, now=self.clock()) == Outcome(answer=None, problems=PROBLEMS)

    @pytest.mark.parametrize("other", [record(99.9), record(100.5, pid=PID + 1)])
    def test_what_began_before_or_is_another_process_says_nothing(self, other: ReloadRecord, tmp_path: Path) -> None:
        process = FakeProcess(lambda: write_record(tmp_path, other))
        with pytest.raises(NoOutcome, match=r"within 30 s.*cannot write .*last_reload\.json.*full disk"):
            signalled(process, tmp_path, now=self.clock())

    def test_one_that_ends_meanwhile(self, tmp_path: Path) -> None:
        with pytest.raises(NoOutcome, match="ended before it had reloaded"):
            signalled(FakeProcess(ends_after=3), tmp_path, now=self.clock())

    def test_its_last_record_counts_if_it_ends_right_after(self, tmp_path: Path) -> None:
        process = FakeProcess(lambda: write_record(tmp_path, record(100.5)), ends_after=0)
        assert signalled(process, tmp_path, now=self.clock()).answer == DONE


class TestByRoute:
    async def test_the_answer_is_the_outcome(self) -> None:
        async with serving(reloads=FakeReloads()) as gate:
            assert await asked(gate.url, None) == Outcome(answer=DONE)

    async def test_a_refusal_has_all_problems(self) -> None:
        async with serving(reloads=FakeReloads(ConfigError(PROBLEMS))) as gate:
            assert await asked(gate.url, None) == Outcome(answer=None, problems=PROBLEMS)

    async def test_one_that_is_under_way_is_waited_for(self) -> None:
        reloads = FakeReloads(ReloadUnderWay("wait"), times=2)
        async with serving(reloads=reloads) as gate:
            assert (await asked(gate.url, None)).answer == DONE
            assert len(reloads.asked) == 3
            reloads.times = 1_000_000
            with pytest.raises(NoOutcome, match="other reloads"):
                await asked(gate.url, None, patience_s=0.5)

    async def test_whatever_else_is_refused_says_why(self) -> None:
        async with serving(reloads=FakeReloads(NothingToReload("there is no file"))) as gate:
            with pytest.raises(AccessRefused, match="there is no file"):
                await asked(gate.url, None)
        async with serving(grants=GRANTS, reloads=FakeReloads()) as gate:
            assert (await asked(gate.url, "all")).answer == DONE
            for token, status in {"system": 403, "sub": 403, None: 401}.items():
                with pytest.raises(AccessRefused) as refused:
                    await asked(gate.url, token)
                assert refused.value.status == status

    async def test_where_nobody_listens(self) -> None:
        with pytest.raises(Unreachable):
            await asked("http://127.0.0.1:1", None)


class TestWhatIsPrinted:
    def test_for_people(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert printed(Outcome(answer=DONE), json=False) == 0
        assert capsys.readouterr().out.splitlines() == [
            "reloaded",
            '  added: sources."a.b"',
            "  removed: backends.old",
            "  changed: limits.patterns",
            "  unchanged backends and sources: 7",
            "  needs a restart: server.port",
        ]

    def test_nothing_has_changed(self, capsys: pytest.CaptureFixture[str]) -> None:
        same = Reloaded(changed=ChangedNames(), unchanged=7, needs_restart=(), config_hash=HASH)
        assert printed(Outcome(answer=same), json=False) == 0
        assert capsys.readouterr().out == "reloaded, nothing has changed\n  unchanged backends and sources: 7\n"

    def test_a_refusal(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert printed(Outcome(answer=None, problems=PROBLEMS), json=False) == 1
        first, *lines = capsys.readouterr().err.splitlines()
        assert "not put the configuration in force" in first
        assert lines == [f"  {problem}" for problem in PROBLEMS]

    def test_for_scripts(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert printed(Outcome(answer=DONE), json=True) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["answer"]["config_hash"], said["answer"]["changed"]["added"]) == (HASH, ['sources."a.b"'])
        assert printed(Outcome(answer=None, problems=PROBLEMS), json=True) == 1
        said = json.loads(capsys.readouterr().out)
        assert said["answer"] is None
        assert said["problems"][0] == {"path": "server.port", "expected": "a number", "got": '"x"'}


class TestTheCommand:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "--config: expected a configuration file, or --url, got neither"),
            (["--config", "a.toml", "--url", "http://h"], "--url: expected no --config beside it"),
            (["--url", "nonsense://"], "--url: expected the address of a gateway"),
            (["--config", "none.toml"], "none.toml: expected a configuration file, got no such file"),
            (["--url", "http://127.0.0.1:1"], "no gateway answers at http://127.0.0.1:1"),
        ],
    )
    def test_what_cannot_be_asked_is_code_2(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["reload", *arguments]) == 2
        assert said in capsys.readouterr().err

    def test_where_no_gateway_is_found_the_file_is_checked(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("tidegate.toml").touch()
        assert main(["reload"]) == 2
        said = capsys.readouterr().err
        assert "no gateway uses" in said
        assert "got an empty file" in said

    def test_one_without_a_state_directory_is_asked_at_the_address_of_its_file(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(TOKEN, "all")

        async def ask(path: str) -> int:
            async with serving(grants=GRANTS, reloads=FakeReloads()) as gate:
                Path(path).write_text(f'[server]\nport = {gate.port}\nstate_dir = ""\nmax_clients = -1\n[broken')
                return await asyncio.to_thread(main, ["reload", "--config", path])

        assert asyncio.run(ask("tidegate.toml")) == 0
        assert "unchanged backends and sources: 7" in capsys.readouterr().out

    def test_the_address_may_be_in_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("tidegate.toml").touch()
        monkeypatch.setenv(URL, "http://127.0.0.1:1")
        assert main(["reload"]) == 2
        assert "http://127.0.0.1:1" in capsys.readouterr().err
        assert main(["reload", "--config", "tidegate.toml"]) == 2
        assert "http://127.0.0.1:1" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("", "http://127.0.0.1:12080"),
        ('host = "0.0.0.0"\nport = 5', "http://localhost:5"),
        ('host = "::1"\nroot_path = "/live"', "http://[::1]:12080/live"),
        ('host = "gw.example"\ntls_cert_file = "c"\ntls_key_file = "c"', "https://gw.example:12080"),
    ],
)
def test_where_a_file_says_that_its_gateway_listens(server: str, url: str) -> None:
    Path("c").touch()
    Path("t.toml").write_text(f"[server]\n{server}")
    assert reloading._url(server_table(Path("t.toml"), environ={})) == url
