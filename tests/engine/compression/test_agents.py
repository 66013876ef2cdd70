"""Agents in virtual time, with processes that do what the test says."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import async_solipsism  # type: ignore[import-untyped]
import msgspec
import pytest
from structlog.testing import capture_logs

from tidegate.engine.compression import agent_process, agents
from tidegate.engine.compression.agents import REPLACEMENTS, Agent, AgentState
from tidegate.engine.compression.messages import (
    Beat,
    Cancel,
    Done,
    Failed,
    FromAgent,
    Identity,
    Publish,
    Ready,
    Run,
    ToAgent,
    Verified,
    encoded,
)
from tidegate.engine.compression.messages import Counts as JobCounts
from tidegate.engine.compression.refusals import Code

VERIFIED = Verified(job="j1", counts=JobCounts(), sha256="00", identity=Identity(1, 2, 3))


class Pipe:
    """A process's standard input: notes what it was told."""

    def __init__(self, process: "FakeProcess") -> None:
        self._process = process
        self._closed = False

    def write(self, data: bytes) -> None:
        self._process.told.append(msgspec.json.decode(data, type=ToAgent))

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        if not self._process.deaf:
            self._process.end(0)


class FakeProcess:
    """Says what the test has it say. `deaf`: it does not end when its standard input does."""

    def __init__(self, pid: int, *, deaf: bool = False) -> None:
        self.pid = pid
        self.deaf = deaf
        self.returncode: int | None = None
        self.told: list[ToAgent] = []
        self.killed = False
        self.stdin = Pipe(self)
        self.stdout = asyncio.StreamReader()
        self._ended = asyncio.Event()

    def say(self, *messages: FromAgent) -> None:
        for message in messages:
            self.stdout.feed_data(encoded(message))

    def end(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
            self.stdout.feed_eof()
            self._ended.set()

    def kill(self) -> None:
        self.killed = True
        self.end(-9)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode


class FakeWork:
    """Hands out the jobs in `jobs`, and notes what it hears."""

    def __init__(self, *jobs: str) -> None:
        self.jobs = asyncio.Queue[str]()
        for job in jobs:
            self.jobs.put_nowait(job)
        self.heard: list[object] = []
        self.states: list[AgentState] = []
        self.wanted = True
        self.publishes = True
        self.agent: Agent

    async def take(self, agent: str) -> str:
        return await self.jobs.get()

    async def order(self, job: str) -> Run | None:
        run = Run(job=job, attempt=1, source=b"/s", destination=b"/d", level=3, roots=[])
        return run if self.wanted else None

    def progressed(self, beat: Beat) -> None:
        self.heard.append(beat)

    async def verified(self, message: Verified) -> bool:
        self.heard.append(message)
        return self.publishes

    async def done(self, job: str) -> None:
        self.heard.append(Done(job))

    async def failed(self, message: Failed) -> None:
        self.heard.append(message)

    async def lost(self, job: str, reason: str) -> None:
        self.heard.append((job, reason))

    def agent_changed(self) -> None:
        self.states.append(self.agent.state)


class House:
    """An agent and its processes. `processes` are those that were started so far."""

    def __init__(self, *jobs: str, deaf: bool = False) -> None:
        self.work = FakeWork(*jobs)
        self.processes: list[FakeProcess] = []
        self.fails_to_start = False
        self._deaf = deaf
        self.agent = Agent("agent-1", self.work, start=self._start, draw=lambda: 0.0)
        self.work.agent = self.agent
        self.task = asyncio.create_task(self.agent.run())

    async def _start(self) -> FakeProcess:
        if self.fails_to_start:
            raise OSError(11, "Resource temporarily unavailable")
        self.processes.append(FakeProcess(100 + len(self.processes), deaf=self._deaf))
        return self.processes[-1]

    @property
    def process(self) -> FakeProcess:
        return self.processes[-1]

    async def let_run(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def ready(self) -> None:
        await self.let_run()
        self.process.say(Ready())
        await self.let_run()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        assert self.task.cancelled()


def virtually(test: Callable[[], Awaitable[None]]) -> None:
    """Run `test` in virtual time, so that its waits take none."""
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(test())  # type: ignore[arg-type]


def test_an_agent_is_idle_once_its_process_is_ready() -> None:
    async def test() -> None:
        house = House()
        await house.let_run()
        assert (house.agent.state, house.agent.pid) == (AgentState.STARTING, 100)
        await house.ready()
        assert (house.agent.state, house.agent.heartbeat_age_s) == (AgentState.IDLE, 0)
        await house.close()
        assert (house.agent.state, house.agent.pid, house.agent.heartbeat_age_s) == (AgentState.STOPPED, None, None)
        assert house.process.returncode == 0

    virtually(test)


def test_a_job_from_its_order_to_its_end() -> None:
    async def test() -> None:
        house = House("j1")
        await house.ready()
        assert (house.agent.state, house.agent.job) == (AgentState.BUSY, "j1")
        house.process.say(Beat("j1"), Beat("other"), Beat(), VERIFIED)
        await house.let_run()
        house.process.say(Done("j1"))
        await house.let_run()
        assert [type(message) for message in house.process.told] == [Run, Publish]
        assert house.work.heard == [Beat("j1"), VERIFIED, Done("j1")]
        assert (house.agent.state, house.agent.job, house.agent.jobs_done) == (AgentState.IDLE, None, 1)
        await house.close()

    virtually(test)


def test_a_failed_job_leaves_the_agent_to_others() -> None:
    async def test() -> None:
        house = House("j1", "j2", "j3")
        await house.ready()
        failed, cancelled = Failed(job="j1", code=Code.DISK_FULL, message="no room"), Failed(job="j2")
        house.process.say(failed, cancelled)
        await house.let_run()
        house.process.say(cancelled)
        await house.let_run()
        assert house.work.heard == [failed, cancelled]
        assert (house.agent.job, house.agent.jobs_failed, house.agent.jobs_done) == ("j3", 1, 0)
        await house.close()

    virtually(test)


def test_what_is_not_to_be_published_is_cancelled() -> None:
    async def test() -> None:
        house = House("j1")
        house.work.publishes = False
        await house.ready()
        house.process.say(VERIFIED)
        await house.let_run()
        assert house.process.told[1:] == [Cancel("j1")]
        await house.close()

    virtually(test)


def test_a_job_that_was_cancelled_before_its_order_is_not_begun() -> None:
    async def test() -> None:
        house = House("j1")
        house.work.wanted = False
        await house.ready()
        assert house.process.told == []
        assert (house.agent.state, house.agent.job) == (AgentState.IDLE, None)
        await house.close()

    virtually(test)


def test_a_lost_process_is_replaced_and_its_job_told() -> None:
    async def test() -> None:
        house = House("j1")
        await house.ready()
        house.process.end(-9)
        await house.let_run()
        assert house.work.heard == [("j1", "agent-1 (process 100) was ended by signal 9")]
        assert (house.agent.state, house.agent.error) == (AgentState.ERROR, "was ended by signal 9")
        assert (house.agent.job, house.agent.jobs_failed, house.agent.restarts) == (None, 1, 1)
        await asyncio.sleep(REPLACEMENTS.first_s)
        await house.ready()
        assert (house.agent.state, house.agent.pid, house.agent.error) == (AgentState.IDLE, 101, None)
        await house.close()

    with capture_logs() as lines:
        virtually(test)
    assert lines[0]["event"] == "agent-1 was ended by signal 9; replaced in 0.5 s"


def test_processes_that_are_lost_again_and_again_are_replaced_ever_later() -> None:
    async def test() -> None:
        house = House()
        loop = asyncio.get_running_loop()
        started = []
        for _ in range(5):
            count = len(house.processes)
            while len(house.processes) == count:
                await asyncio.sleep(0.01)
            started.append(loop.time())
            house.process.end(1)
        waits = [round(later - earlier, 1) for earlier, later in itertools.pairwise(started)]
        assert waits == [0.5, 1.0, 2.0, 4.0]
        await house.close()

    with capture_logs():
        virtually(test)


def test_a_process_that_was_well_is_replaced_soon() -> None:
    async def test() -> None:
        house = House()
        await house.ready()
        for _ in range(3):
            process = house.process
            for _ in range(int(REPLACEMENTS.heal_s) + 1):
                await asyncio.sleep(1)
                process.say(Beat())
            process.end(0)
            await house.let_run()
            await asyncio.sleep(REPLACEMENTS.first_s)
            await house.ready()
            assert house.agent.state is AgentState.IDLE
        await house.close()

    with capture_logs() as lines:
        virtually(test)
    assert {line["event"] for line in lines} == {"agent-1 ended with exit code 0; replaced in 0.5 s"}


def test_what_cannot_be_started_is_tried_again() -> None:
    async def test() -> None:
        house = House()
        house.fails_to_start = True
        await asyncio.sleep(1)
        assert house.agent.error == "could not be started: Resource temporarily unavailable"
        house.fails_to_start = False
        await asyncio.sleep(2)
        await house.ready()
        assert house.agent.state is AgentState.IDLE
        await house.close()

    with capture_logs():
        virtually(test)


def test_a_silent_process_is_killed_but_not_one_that_beats() -> None:
    async def test() -> None:
        house = House("j1")
        await house.ready()
        for _ in range(60):
            await asyncio.sleep(1)
            house.process.say(Beat("j1"))
        assert house.agent.heartbeat_age_s == 0
        await asyncio.sleep(5.5)
        assert house.agent.heartbeat_age_s == 4
        assert not house.process.killed
        await asyncio.sleep(5)
        assert house.processes[0].killed
        assert house.work.heard[-1] == ("j1", "agent-1 (process 100) was ended by signal 9")
        await house.close()

    with capture_logs() as lines:
        virtually(test)
    assert lines[0]["event"] == "agent-1 was silent for 10 s and is killed"


def test_time_in_which_the_engine_itself_was_busy_with_a_message_does_not_count() -> None:
    async def test() -> None:
        house = House("j1")
        release = asyncio.Event()

        async def slow(message: Verified) -> bool:
            await release.wait()
            return True

        house.work.verified = slow  # type: ignore[method-assign]
        await house.ready()
        house.process.say(VERIFIED)
        await asyncio.sleep(100)
        assert not house.process.killed
        release.set()
        await house.close()

    virtually(test)


@pytest.mark.parametrize("said", [b"Traceback\n", b'"\xff"\n', b"x" * 200_000])
def test_a_process_that_is_not_understood_is_ended(said: bytes) -> None:
    async def test() -> None:
        house = House("j1")
        await house.ready()
        house.process.stdout.feed_data(said)
        await asyncio.sleep(1.2)
        assert house.processes[0].killed
        assert house.work.heard[0] == ("j1", "agent-1 (process 100) was ended by signal 9")
        await house.close()

    with capture_logs() as lines:
        virtually(test)
    assert lines[0]["event"].startswith("agent-1 is not understood")


def test_a_job_that_is_cancelled_is_let_go_or_taken_away() -> None:
    async def test() -> None:
        house = House("j1", "j2")
        await house.ready()
        house.agent.cancel("other")
        house.agent.cancel("j1")
        assert house.process.told[1:] == [Cancel("j1")]
        house.process.say(Failed(job="j1"))
        await house.let_run()
        house.agent.cancel("j2")
        await asyncio.sleep(agents.CANCEL_S - 1)
        house.process.say(Beat("j2"))
        assert not house.process.killed
        await asyncio.sleep(1.1)
        assert house.processes[0].killed
        await house.close()

    with capture_logs() as lines:
        virtually(test)
    assert lines[0]["event"] == "agent-1 does not let go of cancelled job j2 and is killed"


@pytest.mark.parametrize("deaf", [False, True])
def test_leaving_ends_the_process_by_force_if_need_be(deaf: bool) -> None:
    async def test() -> None:
        house = House("j1", deaf=deaf)
        await house.ready()
        await house.close()
        assert house.process.killed == deaf
        assert house.process.returncode is not None
        assert house.work.heard == []

    virtually(test)


def test_waits_double_up_to_a_limit() -> None:
    assert [REPLACEMENTS.delay_s(n, jitter=0.0) for n in (1, 2, 3, 7, 1000)] == [0.5, 1.0, 2.0, 30.0, 30.0]
    assert REPLACEMENTS.delay_s(1, jitter=1.0) == 0.75


@pytest.mark.real
async def test_the_working_directory_holds_no_modules_of_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    process = await agent_process.start_process()
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == encoded(Ready())
        process.stdin.close()
        assert await process.wait() == 0
