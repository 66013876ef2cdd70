"""``engine submit``, ``jobs`` and ``agents``, against an engine in another thread."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from programs import tidegate, until
from rich.console import Console, RenderableType

from tidegate.cli import main
from tidegate.cli.engine_calls import Engine
from tidegate.cli.environment import ENGINE_URL, gateway_environment
from tidegate.cli.jobs import agent_table, cancel, job_table, path_text, retried, running_first, size_text, submit
from tidegate.engine.compression.agents import AgentState
from tidegate.engine.compression.jobs import Failure, Job, State
from tidegate.engine.compression.refusals import Code
from tidegate.engine.compression.service import AgentStatus, JobList
from tidegate.engine.server import Options, serve
from tidegate.errors import Unreachable

JOB = Job(
    id="0a1b2c3d",
    state=State.RUNNING,
    path="/data/photos",
    destination="/data/photos.tar.zst",
    level=3,
    attempts=1,
    agent="agent-1",
    bytes_total=2_000_000,
    bytes_read=1_000_000,
    bytes_written=400_000,
    bytes_verified=0,
    percent=50.0,
    rate_bytes_per_s=250_000,
    eta_s=4.2,
    ratio=2.5,
    files=7,
    skipped=0,
    sha256=None,
    error=None,
    submitted_at="2026-11-22T21:40:03.123Z",
    started_at="2026-11-22T21:40:03.123Z",
    ended_at=None,
)
AGENT = AgentStatus(
    id="agent-1",
    state=AgentState.ERROR,
    pid=None,
    job=None,
    jobs_done=3,
    jobs_failed=1,
    restarts=1,
    memory_bytes=None,
    cpu_percent=None,
    heartbeat_age_s=None,
    error="was ended by signal 9",
)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine without agents that the command line finds, in a thread; its root is where we are."""
    started, url = threading.Event(), list[str]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with serve(port=0, options=Options(agents=0, roots=(tmp_path,))) as port:
            url.append(f"http://127.0.0.1:{port}/rpc")
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert started.wait(30)
    monkeypatch.setenv(ENGINE_URL, url[0])
    monkeypatch.chdir(tmp_path)
    yield
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def drawn(table: RenderableType) -> str:
    console = Console(file=StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_job_is_submitted_and_listed(engine: None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["engine", "submit", "file", "--level", "5", "--json"]) == 0
    job = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1], type=Job)
    assert (job.state, job.level, job.path) == (State.QUEUED, 5, str(Path("file").absolute()))
    assert main(["engine", "submit", "file", "--destination", "other"]) == 0
    capsys.readouterr()
    assert main(["engine", "jobs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{job.id} queued 0.0% {job.path} -> {job.path}.zst"
    assert lines[1].endswith(f"-> {Path('other').absolute()}")


def test_names_that_are_not_utf_8_are_submitted_too(engine: None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("\udcff").touch()
    assert main(["engine", "submit", "\udcff"]) == 0
    assert "/\\xff ->" in capsys.readouterr().out


def test_a_refusal_is_a_readable_line_and_code_1(engine: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "submit", "/etc"]) == 1
    assert capsys.readouterr().err.startswith("tidegate: expected a path within the allowed folders (")


def test_a_waiting_job_is_cancelled(engine: None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["engine", "submit", "file", "--json"]) == 0
    job = json.loads(capsys.readouterr().out.splitlines()[-1])["id"]
    for _ in range(2):
        assert main(["engine", "cancel", job]) == 0
        assert capsys.readouterr().out.startswith(f"{job} cancelled ")
    assert main(["engine", "cancel", "other"]) == 1
    assert capsys.readouterr().err.startswith("tidegate: no job 'other'")


async def test_a_running_job_is_cancelled_when_its_agent_has_let_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [State.CANCELLING, State.CANCELLING, State.CANCELLED, State.DONE]

    async def call(_: Engine, method: str, result: type[Job], *, id: str) -> Job:  # noqa: A002
        return msgspec.structs.replace(JOB, state=answers.pop(0))

    monkeypatch.setattr(Engine, "call", call)
    assert await cancel(asyncio.Event(), "x", json=True, url="http://unused") == 0
    assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["cancelled"]
    assert await cancel(asyncio.Event(), "x", json=True, url="http://unused") == 1


def test_agents_are_listed(engine: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "agents", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_no_engine_is_a_readable_line_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "jobs", "--url", "http://127.0.0.1:1/rpc"]) == 1
    assert capsys.readouterr().err == "tidegate: no engine answers at http://127.0.0.1:1/rpc: connection refused\n"
    assert main(["engine", "submit", "x", "--level", "20"]) == 2


@pytest.mark.parametrize(
    ("terminal", "arguments", "waits"),
    [(False, [], False), (True, [], True), (True, ["--no-wait"], False), (False, ["--wait"], True)],
)
def test_a_job_is_waited_for_on_a_terminal_or_if_told_to(
    terminal: bool, arguments: list[str], waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    async def submitted(*_: object, wait: bool, **__: object) -> int:
        heard.append(wait)
        return 0

    monkeypatch.setattr("tidegate.cli.jobs.submit", submitted)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert main(["engine", "submit", "file", *arguments]) == 0
    assert heard == [waits]


@pytest.mark.real
def test_on_a_terminal_a_bar_shows_how_it_goes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    main_end, terminal = os.openpty()
    with tidegate("engine", "--port", "0", "--allow-root", str(tmp_path)) as running:
        url = until(lambda: next((line["event"].split()[-1] for line in running.log), None))
        command = [sys.executable, "-m", "tidegate", "engine", "submit", str(tmp_path / "file"), "--url", url]
        with subprocess.Popen(command, stdout=terminal, env=os.environ | {"TERM": "xterm"}) as submitting:
            os.close(terminal)
            shown = b"".join(iter(lambda: _read(main_end), b""))
        os.close(main_end)
    assert submitting.returncode == 0
    assert b"100 %" in shown
    assert (tmp_path / "file.zst").exists()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody has its other end any more
        return b""


@pytest.mark.real
async def test_what_became_of_a_job_is_said_in_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "top").mkdir()
    os.mkfifo(tmp_path / "top" / "pipe")
    stopped = asyncio.Event()
    async with serve(port=0, options=Options(agents=1, roots=(tmp_path,))) as port:
        url = f"http://127.0.0.1:{port}/rpc"
        target = tmp_path / "out"
        assert await submit(stopped, tmp_path / "top", level=3, destination=target, wait=True, json=True, url=url) == 0
        assert capsys.readouterr().err == "tidegate: not in the archive: 1 sockets, pipes or devices\n"
        (tmp_path / "top" / "sparse").touch()
        os.truncate(tmp_path / "top" / "sparse", 1 << 40)
        waiting = asyncio.create_task(
            submit(stopped, tmp_path / "top", level=1, destination=tmp_path / "x", wait=True, json=True, url=url)
        )
        async with asyncio.timeout(60):
            while not (await Engine(url).call("compression.list", JobList)).jobs[-1].bytes_read:
                await asyncio.sleep(0.05)
        os.truncate(tmp_path / "top" / "sparse", 0)
        assert await waiting == 1
    assert re.fullmatch(r"tidegate: .*/sparse changed while it was read: .*\n", capsys.readouterr().err)


@pytest.mark.real
async def test_waiting_for_a_job_tells_how_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    async with serve(port=0, options=Options(agents=1, roots=(tmp_path,))) as port:
        url = f"http://127.0.0.1:{port}/rpc"
        codes = [
            await submit(asyncio.Event(), tmp_path / "file", level=3, destination=target, wait=True, json=True, url=url)
            for target in (None, tmp_path / "other")
        ]
        asked_to_stop = asyncio.Event()
        asked_to_stop.set()
        codes.append(
            await submit(
                asked_to_stop, tmp_path / "file", level=3, destination=tmp_path / "third", wait=True, json=True, url=url
            )
        )
    assert codes == [0, 0, 0]
    captured = capsys.readouterr()
    jobs = [json.loads(line) for line in captured.out.splitlines() if line.startswith("{")]
    assert [job["state"] for job in jobs].count("done") == 2
    assert captured.err.endswith(" continues in the engine\n")
    assert (tmp_path / "file.zst").exists()


async def test_a_job_is_waited_for_while_its_engine_starts_again() -> None:
    answers: list[Job | Unreachable] = [Unreachable("gone"), Unreachable("gone"), JOB]

    async def call() -> Job:
        answer = answers.pop(0)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    assert await retried(call) == JOB
    answers = [Unreachable("gone")]
    with pytest.raises(Unreachable):
        await retried(call, retry_s=0.0)


def test_a_job_as_it_is_drawn() -> None:
    _, line = drawn(job_table([JOB])).splitlines()
    for part in ("0a1b2c3d", "running", "━━", " 50 %", "250.0 kB/s", "4 s", "2.50", "/data/photos.tar.zst"):
        assert part in line
    failed = msgspec.structs.replace(
        JOB, state=State.FAILED, error=Failure(Code.DISK_FULL, "no room\x1b[2J"), eta_s=None, rate_bytes_per_s=None
    )
    assert "no room\\x1b[2J" in drawn(job_table([failed]))
    assert drawn(job_table([])).split()[:2] == ["Job", "State"]


def test_what_is_not_all_done_is_not_said_to_be() -> None:
    verifying = msgspec.structs.replace(JOB, state=State.VERIFYING, bytes_read=1000, bytes_verified=999)
    assert " 99 %" in drawn(job_table([verifying]))


def test_a_result_in_the_working_directory_is_shown_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near = msgspec.structs.replace(JOB, destination=f"{tmp_path}/sub/photos.tar.zst")
    assert drawn(job_table([near])).rstrip().endswith(" sub/photos.tar.zst")


def test_jobs_that_go_on_are_followed_first() -> None:
    old, new = (msgspec.structs.replace(JOB, id=name, state=State.DONE) for name in ("old", "new"))
    waiting = msgspec.structs.replace(JOB, id="waiting", state=State.QUEUED)
    assert [job.id for job in running_first([old, JOB, new, waiting])] == [JOB.id, "waiting", "new", "old"]


def test_an_agent_as_it_is_drawn() -> None:
    assert "was ended by signal 9" in drawn(agent_table([AGENT]))
    busy = msgspec.structs.replace(
        AGENT, state=AgentState.BUSY, pid=77, job="0a1b2c3d", memory_bytes=26_214_400, cpu_percent=98, error=None
    )
    for part in ("busy", "77", "0a1b2c3d", "26.2 MB", "98 %"):
        assert part in drawn(agent_table([busy]))


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5e12, "5.0 TB")]
)
def test_sizes_are_short(size: float, text: str) -> None:
    assert size_text(size) == text


def test_paths_are_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_text(Path("a b")) == f"{tmp_path}/a b"
    assert path_text(Path("/x\udcff y")) == "file:///x%FF%20y"


def test_the_engine_s_url_is_no_configuration() -> None:
    assert gateway_environment({ENGINE_URL: "x", "OTHER": "y"}) == {"OTHER": "y"}
