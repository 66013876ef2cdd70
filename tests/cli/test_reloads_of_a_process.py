"""A real gateway that is told to read its configuration again: by SIGHUP, by the command, by the route."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from programs import Program, tidegate, until
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

pytestmark = pytest.mark.real

CONFIG = """\
[server]
port = 0
state_dir = "state"
drain_s = 0.5
allow_no_sources = true
"""

TOKENS = """\
[auth]
mode = "token"
[[auth.tokens]]
token = "abcdefghijklmnopqrstuvwxyz"
roles = ["admin", "subscriber", "publisher"]
"""

BROKEN = {
    "empty": "",
    "truncated in the middle of a table": CONFIG + '[backends.b]\nurl = "http://127.0.',
    "an unknown key": CONFIG + "nonsense = 1\n",
    "two errors at once": CONFIG + 'max_clients = 0\n[limits]\npatterns = "x"\n',
    "a missing file with a token": CONFIG + '[auth]\nmode = "token"\n[[auth.tokens]]\ntoken_file = "nosuch"\n',
    "an empty file with a token": CONFIG + '[auth]\nmode = "token"\n[[auth.tokens]]\ntoken_file = "blank"\n',
}
SAID = {
    "empty": ["sources"],
    "truncated in the middle of a table": ["tidegate.toml, line 7, column"],
    "an unknown key": ["server.nonsense"],
    "two errors at once": ["server.max_clients", "limits.patterns"],
    "a missing file with a token": ["auth.tokens[0].token_file"],
    "an empty file with a token": ["auth.tokens[0].token_file"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tidegate.toml").write_text(CONFIG)
    (tmp_path / "blank").touch()
    return tmp_path


@contextmanager
def gateway(folder: Path, *arguments: str, **environ: str) -> Iterator[Program]:
    with tidegate("serve", "--config", "tidegate.toml", *arguments, folder=folder, **environ) as program:
        until(lambda: program.url, what=program.err)
        yield program


def reload(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tidegate", "reload", *arguments],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
    )


def events(program: Program, name: str) -> list[dict[str, Any]]:
    return [line for line in program.log if line["event"] == name]


def ask(program: Program, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    try:
        with urlopen(Request(program.url + path, method=method, data=body), timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except HTTPError as error:
        return error.code, json.loads(error.read())


def successful(program: Program) -> str:
    with urlopen(f"{program.url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    [line] = [line for line in lines if line.startswith("tidegate_config_last_reload_successful ")]
    return str(line.split()[1])


def publish(program: Program, number: int) -> int:
    status, answer = ask(program, "POST", "/api/v1/events", json.dumps({"type": "n", "data": number}).encode())
    assert status == 202
    return int(answer["seq"])


@contextmanager
def follow(program: Program) -> Iterator[ClientConnection]:
    with open_websocket(program.url.replace("http", "ws", 1) + "/ws?types=n") as client:
        while json.loads(client.recv(timeout=30))["type"] != "synced":
            pass
        yield client


def test_a_signal_keeps_the_connections_and_their_position(folder: Path) -> None:
    with gateway(folder) as program, follow(program) as client:
        first = publish(program, 1)
        (folder / "tidegate.toml").write_text(f"{CONFIG}[limits]\npatterns = 3\n")
        program.signal(signal.SIGHUP)
        [line] = until(lambda: events(program, "configuration reloaded"), what=program.err)
        assert line["changed"] == ["limits.patterns"]
        last = publish(program, 2)
        received = [json.loads(client.recv(timeout=30)) for _ in range(2)]
        assert [(event["data"], event["seq"]) for event in received] == [(1, first), (2, last)]
        assert program.process.poll() is None


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_with_all_its_errors_until_it_is_mended(kind: str, folder: Path) -> None:
    file = folder / "tidegate.toml"
    with gateway(folder) as program, follow(program) as client:
        assert successful(program) == "1"
        file.write_text(BROKEN[kind])
        done = reload("--config", str(file), folder=Path("/"))
        assert (done.returncode, done.stdout) == (1, "")
        first, *lines = done.stderr.splitlines()
        assert first == "tidegate: the gateway has not put the configuration in force:"
        assert len(lines) == len(SAID[kind])
        assert all(expected in line for expected, line in zip(SAID[kind], lines, strict=True))
        logged = events(program, "problem in the configuration")
        assert [f"  {each['path']}: expected {each['expected']}, got {each['got']}" for each in logged] == lines
        status, answer = ask(program, "POST", "/api/v1/reload")
        assert (status, len(answer["errors"])) == (422, len(lines))
        assert successful(program) == "0"
        assert ask(program, "GET", "/api/v1/status")[1]["config"]["last_reload"]["outcome"] == "refused"
        file.write_text(CONFIG)  # the same old file again
        done = reload(folder=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert "nothing has changed" in done.stdout
        assert successful(program) == "1"
        publish(program, 1)
        assert json.loads(client.recv(timeout=30))["data"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(folder: Path) -> None:
    file = folder / "tidegate.toml"
    with gateway(folder):
        file.chmod(0)
        done = reload("--config", str(file), folder=folder)
        assert done.returncode == 1
        assert "Permission denied" in done.stderr


def test_what_cannot_be_read_as_a_file_is_refused(folder: Path) -> None:
    file = folder / "tidegate.toml"
    with gateway(folder) as program:
        file.unlink()
        done = reload("--config", str(file), folder=folder)
        assert (done.returncode, "no such file" in done.stderr) == (1, True)
        file.mkdir()
        program.signal(signal.SIGHUP)
        until(lambda: len(events(program, "problem in the configuration")) == 2, what=program.err)
        assert program.process.poll() is None


def test_the_command_says_what_changed_and_what_needs_a_restart(folder: Path) -> None:
    file = folder / "tidegate.toml"
    with gateway(folder) as program:
        file.write_text(
            CONFIG.replace("port = 0", "port = 1") + '[limits]\npatterns = 3\n[backends.b]\nurl = "http://h"'
        )
        done = reload("--json", folder=folder)
        assert done.returncode == 0
        answer = json.loads(done.stdout)["answer"]
        assert (answer["changed"]["added"], answer["changed"]["changed"]) == (["backends.b"], ["limits.patterns"])
        assert answer["needs_restart"] == ["server.port"]
        status = ask(program, "GET", "/api/v1/status")[1]["config"]
        assert (status["needs_restart"], status["hash"]) == (["server.port"], answer["config_hash"])
        record = folder / "state/last_reload.json"
        assert stat.S_IMODE(record.stat().st_mode) == 0o600
        assert json.loads(record.read_bytes())["answer"] == answer


def test_by_route_and_token(folder: Path) -> None:
    (folder / "tidegate.toml").write_text(CONFIG.replace('"state"', '""') + TOKENS)
    with gateway(folder) as program:
        assert reload("--url", program.url, folder=folder).returncode == 1
        token = {"TIDEGATE_TOKEN": "abcdefghijklmnopqrstuvwxyz"}
        assert reload("--url", program.url, folder=folder, **token).returncode == 0
        assert reload(folder=folder, TIDEGATE_URL=program.url, **token).returncode == 0


def test_a_storm_is_over_soon_and_the_last_file_counts(folder: Path) -> None:
    with gateway(folder) as program, follow(program) as client:
        for number in range(300):
            (folder / "tidegate.toml").write_text(f"{CONFIG}[limits]\npatterns = {1 + number}\n")
            program.signal(signal.SIGHUP)
        done = reload("--json", folder=folder)
        assert (done.returncode, json.loads(done.stdout)["answer"]["changed"]["changed"]) == (0, [])
        publish(program, 1)
        assert json.loads(client.recv(timeout=30))["data"] == 1
        assert 2 <= len(events(program, "configuration reloaded")) <= 302


def test_without_a_file_there_is_one_line_and_nothing_else() -> None:
    with tidegate("serve", "--port", "0") as program:
        until(lambda: program.url)
        program.signal(signal.SIGHUP)
        [line] = until(lambda: events(program, "SIGHUP ignored"), what=program.err)
        assert (line["level"], "--config" in line["reason"]) == ("info", True)
        assert ask(program, "POST", "/api/v1/reload")[0] == 409
        assert program.process.poll() is None


def test_during_a_drain_it_is_ignored_with_a_line(folder: Path) -> None:
    (folder / "tidegate.toml").write_text(CONFIG.replace("0.5", "3600"))
    with gateway(folder) as program, follow(program), follow(program):
        program.signal(signal.SIGTERM)
        until(lambda: events(program, "draining"))
        program.signal(signal.SIGHUP)
        [line] = until(lambda: events(program, "SIGHUP ignored"), what=program.err)
        assert "draining" in line["reason"]
        assert program.process.poll() is None


def catches_hangups(pid: int) -> bool:
    """Whether the process has a handler for SIGHUP, as the kernel sees it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def test_no_moment_of_the_start_is_too_early(folder: Path) -> None:
    drawn = random.Random(15)
    for _ in range(12):
        with tidegate("serve", "--config", "tidegate.toml", folder=folder) as program:
            until(lambda: catches_hangups(program.pid) or program.process.poll() is not None, what=program.err)
            for _ in range(drawn.randrange(1, 6)):
                program.signal(signal.SIGHUP)
                time.sleep(drawn.random() * 0.4)
            until(lambda: program.url, what=program.err)
            until(lambda: events(program, "configuration reloaded"), what=program.err)
            program.signal(signal.SIGTERM)
            assert program.wait() == 0


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.05])
def test_one_that_was_started_with_the_signal_ignored_survives_even_before_python_runs(
    after_s: float, folder: Path
) -> None:
    command = f"trap '' HUP; exec {sys.executable} -P -m tidegate serve --config tidegate.toml"
    with subprocess.Popen(["sh", "-c", command], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: "tidegate" in Path(f"/proc/{process.pid}/cmdline").read_text().split("\0"))
            time.sleep(after_s)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            assert any('"listening"' in line for line in process.stderr)
            process.send_signal(signal.SIGHUP)
            assert any('"configuration reloaded"' in line for line in process.stderr)
        finally:
            process.kill()


@pytest.mark.parametrize("command", [("watch", "http://127.0.0.1:1"), ("engine", "--port", "0")])
def test_to_other_commands_it_is_the_end(command: tuple[str, ...]) -> None:
    with tidegate(*command) as program:
        until(lambda: program.err, what="it says nothing")
        program.signal(signal.SIGHUP)
        assert program.process.wait(60) == -signal.SIGHUP


class TestTheLogOfARun:
    def test_its_first_line_says_what_runs_and_the_last_one_why_it_ended(self, folder: Path) -> None:
        (folder / "tidegate.toml").write_text(CONFIG + TOKENS)
        with gateway(folder) as program:
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        [line] = events(program, "listening")
        assert line["config"] == str(folder / "tidegate.toml")
        assert (line["pid"], line["python"]) == (program.pid, sys.version.split()[0])
        assert (line["backends"], line["sources"], line["access"], line["tokens"]) == (0, 0, "token", 1)
        assert (line["state_dir"], line["last_run"]) == (str(folder / "state"), None)
        assert len(line["config_hash"]) == 16
        assert {"version", "epoch", "open_files", "max_clients", "allowed_hosts", "history_events"} <= line.keys()
        [ended] = events(program, "stopped")
        assert ended["why"] == "SIGTERM"
        assert ended["after_s"] > 0

    def test_the_next_one_says_whether_it_ended_well(self, folder: Path) -> None:
        with gateway(folder) as program:
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        with gateway(folder) as program:
            assert events(program, "listening")[0]["last_run"] == "ended"
            program.process.kill()
            program.wait()
        with gateway(folder) as program:
            [line] = events(program, "listening")
            assert (line["last_run"], line["last_seen"][:4]) == ("broke off", str(time.gmtime().tm_year))

    def test_a_start_that_fails_is_in_the_log(self, folder: Path) -> None:
        (folder / "tidegate.toml").write_text(BROKEN["two errors at once"])
        with tidegate("serve", "--config", "tidegate.toml", folder=folder) as program:
            assert program.wait() == 2
        [line] = program.log
        assert (line["event"], line["level"]) == ("failed", "error")
        assert [problem["path"] for problem in line["problems"]] == ["server.max_clients", "limits.patterns"]
        (folder / "tidegate.toml").write_text(CONFIG)
        with gateway(folder), tidegate("serve", "--config", "tidegate.toml", folder=folder) as second:
            assert second.wait() == 1
        [line] = second.log
        assert "another gateway uses" in line["error"]
