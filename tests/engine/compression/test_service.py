"""Jobs as callers see them, with real agents; kills of agents and engines are in ``test_engine``."""

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tidegate.engine.compression.agents import AgentState
from tidegate.engine.compression.jobs import ENDED, Job, Record, State
from tidegate.engine.compression.messages import Failed
from tidegate.engine.compression.queue import MAX_LOST, JobQueue
from tidegate.engine.compression.refusals import Code, Refused
from tidegate.engine.compression.roots import Roots
from tidegate.engine.compression.service import Compression
from tidegate.engine.compression.store import JobStore, opened
from tidegate.errors import StoreError

PATIENCE_S = 60.0


@asynccontextmanager
async def compression(
    *roots: Path, agents: int = 1, changed: Callable[[], None] = lambda: None, state_dir: Path | None = None
) -> AsyncIterator[Compression]:
    async with opened(state_dir) as store:
        queue = JobQueue(await store.load(), keep_s=1000.0, keep_count=100)
        service = Compression(store=store, queue=queue, roots=Roots(roots), agents=agents, changed=changed)
        async with service.running():
            yield service


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Compression]:
    """Without agents: jobs only wait."""
    async with compression(tmp_path, agents=0) as service:
        yield service


async def ended(service: Compression, job: str) -> Job:
    async with asyncio.timeout(PATIENCE_S):
        while (state := await service.get(job)).state not in ENDED:
            await asyncio.sleep(0.02)
    return state


async def made(service: Compression, path: Path, **params: object) -> Job:
    job = await service.submit(str(path), **params)  # type: ignore[arg-type]
    return await ended(service, job.id)


async def refusal(service: Compression, path: str, **params: object) -> tuple[Code, str]:
    with pytest.raises(Refused) as caught:
        await service.submit(path, **params)  # type: ignore[arg-type]
    return caught.value.code, str(caught.value)


async def test_a_submitted_job_waits_and_is_told(idle: Compression, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "top").mkdir()
    job = await idle.submit(str(tmp_path / "file"), level=7)
    assert (job.state, job.level, job.path) == (State.QUEUED, 7, f"{tmp_path}/file")
    assert job.destination == f"{tmp_path}/file.zst"
    assert (await idle.submit(str(tmp_path / "top"))).destination == f"{tmp_path}/top.tar.zst"
    assert (await idle.submit(str(tmp_path / "file"), destination=str(tmp_path / "top"))).destination == (
        f"{tmp_path}/top/file.zst"
    )
    assert (await idle.submit(str(tmp_path / "file"), destination=f"{tmp_path}/new")).destination == f"{tmp_path}/new"
    assert (await idle.list()).jobs[0] == await idle.get(job.id) == job
    assert (await idle.cancel(job.id)).state is State.CANCELLED


async def test_names_that_are_not_utf_8(idle: Compression, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    path.touch()
    job = await idle.submit(path.as_uri())
    assert (job.path, job.destination) == (f"{tmp_path}/\\xff", f"{tmp_path}/\\xff.zst")
    assert idle._queue.record(job.id).source == os.fsencode(path)


async def test_what_cannot_be_is_refused_at_once(idle: Compression, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").symlink_to("/etc")
    file = str(tmp_path / "file")
    assert await refusal(idle, f"{tmp_path}/none") == (Code.NOT_FOUND, f"{tmp_path}/none: No such file or directory")
    assert (await refusal(idle, f"{tmp_path}/pipe"))[0] is Code.NOT_SUPPORTED
    assert (await refusal(idle, "/etc/passwd"))[0] is Code.NOT_ALLOWED
    assert (await refusal(idle, f"{tmp_path}/out/passwd"))[0] is Code.NOT_ALLOWED
    assert (await refusal(idle, str(tmp_path)))[0] is Code.NOT_ALLOWED  # its default destination is outside
    assert (await refusal(idle, file, destination=f"{tmp_path}/there"))[0] is Code.DESTINATION_EXISTS
    assert (await refusal(idle, file, destination="/tmp/x.zst"))[0] is Code.NOT_ALLOWED
    assert (await refusal(idle, file, destination=f"{tmp_path}/out/x"))[0] is Code.NOT_ALLOWED
    assert (await refusal(idle, file, destination=f"{tmp_path}/none/x"))[0] is Code.NOT_FOUND
    assert (await refusal(idle, file, destination=f"{file}/x"))[0] is Code.NOT_FOUND
    long = tmp_path / ("x" * 255)
    long.touch()
    for path, target in ((str(long), None), (file, f"{long}y"), (file, f"{tmp_path}/{'d/' * 5000}x")):
        code, message = await refusal(idle, path, destination=target)
        assert (code, message.endswith("cannot be written: File name too long")) == (Code.IO_ERROR, True)
    assert (await refusal(idle, f"{long}y"))[0] is Code.UNREADABLE
    assert (await idle.list()).jobs == []


async def test_cancelled_jobs_are_forgotten_as_others_are(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with compression(tmp_path, agents=0, state_dir=tmp_path / "state") as service:
        for _ in range(105):
            last = await service.submit(f"{tmp_path}/file")
            await service.cancel(last.id)
        assert len((await service.list()).jobs) == len(await service._store.load()) == 100
        assert (await service.get(last.id)).state is State.CANCELLED


async def test_a_job_that_cannot_be_kept_is_refused(
    idle: Compression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: JobStore, *records: Record) -> None:
        raise StoreError("jobs cannot be kept: disk full")

    monkeypatch.setattr(JobStore, "save", full)
    (tmp_path / "file").touch()
    assert await refusal(idle, f"{tmp_path}/file") == (Code.IO_ERROR, "jobs cannot be kept: disk full")
    assert (await idle.list()).jobs == []


@pytest.mark.parametrize("end", ["done", "failed", "lost", "cancel"])
async def test_a_job_is_shown_as_ended_when_no_new_start_would_take_that_back(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    shown: list[bool] = []
    kept: list[bool] = []
    async with compression(tmp_path, agents=0, state_dir=tmp_path / "state") as service:
        job = (await service.submit(f"{tmp_path}/file")).id
        save = JobStore.save

        async def watched(self: JobStore, *records: Record) -> None:
            for look in (service.get(job), service.list()):
                found = await look
                shown.append((found if isinstance(found, Job) else found.jobs[0]).state in ENDED)
            await save(self, *records)
            kept.append(records[0].has_ended)

        if end != "cancel":
            service._queue.take("agent-1", now=1.0)
        monkeypatch.setattr(JobStore, "save", watched)
        match end:
            case "done":
                await service.done(job)
            case "failed":
                await service.failed(Failed(job=job, code=Code.IO_ERROR, message="disk full"))
            case "lost":
                for _ in range(MAX_LOST):
                    await service.lost(job, "killed")
                    service._queue.take("agent-1", now=1.0)
            case "cancel":
                await service.cancel(job)
        assert not any(shown)
        assert kept[-1]
        assert (await service.get(job)).state in ENDED


async def test_what_a_dead_engine_left_of_a_cancelled_job_is_removed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with compression(tmp_path, agents=0, state_dir=tmp_path / "state") as service:
        job = (await service.submit(f"{tmp_path}/file")).id
        service._queue.take("agent-1", now=1.0)
        service._queue.cancel(job, now=2.0)
        await service._keep(service._queue.record(job))
    (tmp_path / f".tidegate-{job}-1.partial").touch()
    async with compression(tmp_path, agents=0, state_dir=tmp_path / "state") as service:
        assert (await service.get(job)).state is State.CANCELLED
    assert list(tmp_path.glob(".tidegate*")) == []


@pytest.mark.real
async def test_ordinary_programs_read_the_results(tmp_path: Path) -> None:
    if not shutil.which("zstd"):
        pytest.skip("the zstd program is not installed")
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "random").write_bytes(os.urandom(8_000_000))
    (top / "text").write_bytes(b"tide gate " * 1_200_000)
    (top / "empty").touch()
    (top / "link").symlink_to("sub/random")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\n")).write_text("strange")
    async with compression(tmp_path, agents=2) as service:
        folder, file = await asyncio.gather(
            made(service, top), made(service, top / "text", level=1, destination=str(tmp_path))
        )
    for job in (folder, file):
        assert (job.state, job.percent, job.bytes_read) == (State.DONE, 100.0, job.bytes_total), job
        subprocess.run(["zstd", "--test", "--quiet", job.destination], check=True)
        plain = subprocess.run(["zstd", "-dc", job.destination], check=True, capture_output=True).stdout
        assert hashlib.sha256(plain).hexdigest() == job.sha256
        assert job.ratio == round(len(plain) / Path(job.destination).stat().st_size, 3)
    (tmp_path / "again").mkdir()
    subprocess.run(["tar", "--zstd", "-xf", folder.destination, "-C", tmp_path / "again"], check=True)
    subprocess.run(["diff", "--recursive", "--no-dereference", top, tmp_path / "again" / "top"], check=True)
    assert list(tmp_path.rglob(".tidegate*")) == []


@pytest.mark.real
async def test_progress_goes_up_and_everybody_hears_of_changes(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_text(os.urandom(10_000_000).hex())
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    async with compression(tmp_path, changed=changed) as service:
        submitted = await service.submit(str(source), level=12)
        seen = [submitted]
        while seen[-1].state not in ENDED:
            await asyncio.sleep(0.02)
            job = await service.get(submitted.id)
            if job != seen[-1]:
                seen.append(job)
    assert seen[-1].state is State.DONE
    percents = [job.percent for job in seen]
    assert percents == sorted(percents)
    assert [percent for percent in percents if 0 < percent < 100]
    states = list(dict.fromkeys(job.state for job in seen))
    assert states[:2] == [State.QUEUED, State.RUNNING]
    assert states[-1] is State.DONE
    assert changes >= 5


@pytest.mark.real
async def test_failures_and_cancelling_leave_nothing_and_the_agent_goes_on(tmp_path: Path) -> None:
    async with compression(tmp_path) as service:
        big = tmp_path / "big"
        big.write_text(os.urandom(20_000_000).hex())
        job = await service.submit(str(big), level=19)
        async with asyncio.timeout(PATIENCE_S):
            while (await service.get(job.id)).bytes_read == 0:
                await asyncio.sleep(0.02)
        assert (await service.list_agents()).agents[0].state is AgentState.BUSY
        assert (await service.cancel(job.id)).state is State.CANCELLING
        assert (await ended(service, job.id)).state is State.CANCELLED
        gone = tmp_path / "gone"
        gone.touch()
        (tmp_path / "big.zst").touch()
        failed = await service.submit(str(gone), destination=f"{tmp_path}/other")
        Path(failed.destination).touch()
        job = await ended(service, failed.id)
        if job.state is not State.DONE:  # it was not quicker than we were
            assert job.error is not None
            assert job.error.code is Code.DESTINATION_EXISTS
        (tmp_path / "other").unlink(missing_ok=True)
        empty = await made(service, gone, destination=f"{tmp_path}/empty.zst")
        assert (empty.state, empty.percent, empty.bytes_total) == (State.DONE, 100.0, 0)
        [agent] = (await service.list_agents()).agents
        assert (agent.restarts, agent.error) == (0, None)
    assert list(tmp_path.glob(".tidegate*")) == []


@pytest.mark.real
async def test_an_idle_agent_does_not_change(tmp_path: Path) -> None:
    async with compression(tmp_path, agents=2) as service:
        async with asyncio.timeout(PATIENCE_S):
            while {agent.state for agent in (await service.list_agents()).agents} != {AgentState.IDLE}:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        await service.list_agents()
        first = None
        same = 0
        async with asyncio.timeout(PATIENCE_S):
            while same < 3:
                await asyncio.sleep(0.3)
                now = await service.list_agents()
                same = same + 1 if now == first else 0
                first = now


@pytest.mark.real
async def test_a_disk_that_fills_up(small_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(os.urandom(3_000_000))
    async with compression(tmp_path) as service:
        job = await made(service, source, destination=f"{small_disk}/out.zst")
        assert job.error is not None
        assert (job.state, job.error.code) == (State.FAILED, Code.DISK_FULL)
        assert 0 < job.percent < 100
        assert list(small_disk.iterdir()) == []
        source.write_bytes(bytes(3_000_000))
        assert (await made(service, source, destination=f"{small_disk}/out.zst")).state is State.DONE


@pytest.mark.real
async def test_an_agent_that_is_killed_again_and_again_costs_the_job(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_text(os.urandom(20_000_000).hex())
    with capture_logs():
        async with compression(tmp_path) as service:
            job = await service.submit(str(source), level=19)
            killed = set()
            async with asyncio.timeout(PATIENCE_S):
                while (await service.get(job.id)).state not in ENDED:
                    [agent] = (await service.list_agents()).agents
                    if agent.state is AgentState.BUSY and agent.pid is not None and agent.pid not in killed:
                        killed.add(agent.pid)
                        os.kill(agent.pid, 9)
                    await asyncio.sleep(0.02)
            ended_job = await service.get(job.id)
            assert (ended_job.state, ended_job.attempts, len(killed)) == (State.FAILED, 3, 3)
            assert ended_job.error is not None
            assert ended_job.error.code is Code.AGENT_LOST
            assert ended_job.error.message.endswith("was ended by signal 9")
    assert list(tmp_path.glob(".tidegate*")) == []
