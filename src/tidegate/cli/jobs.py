"""The commands ``engine submit``, ``jobs``, ``cancel`` and ``agents``: compression jobs and their worker processes."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tidegate.cli.engine_calls import Engine
from tidegate.cli.signals import until
from tidegate.engine.compression.agents import AgentState
from tidegate.engine.compression.jobs import ENDED, Job, State
from tidegate.engine.compression.service import AgentList, AgentStatus, JobList
from tidegate.errors import Unreachable
from tidegate.printable import printable, printable_json

REFRESH_S = 0.25
RETRY_S = 30.0
"""How long calls are retried while the engine is away. Jobs survive a restart of the engine, which takes less."""

T = TypeVar("T", Job, AgentStatus)
Draw = Callable[[Sequence[T]], RenderableType]

_STYLES = {
    State.DONE: "green",
    State.FAILED: "red",
    State.CANCELLED: "yellow",
    AgentState.IDLE: "green",
    AgentState.ERROR: "red",
}


async def submit(
    stopped: asyncio.Event,
    path: Path,
    *,
    level: int,
    destination: Path | None,
    wait: bool,
    json: bool,
    url: str,
) -> int:
    """Submit a job and show it; with `wait`, until it has ended. Return the exit code: 1 if `wait` and it failed.

    Setting `stopped` ends the wait, not the job. Raises `EngineRefused` and `Unreachable`.
    """
    target = None if destination is None else path_text(destination)
    engine = Engine(url)
    params = {"path": path_text(path), "level": level, "destination": target}
    job = await engine.call("compression.submit", Job, **params)
    if not wait:
        _write([job], job_table, json=json)
        return 0

    async def read() -> Sequence[Job]:
        return [await retried(lambda: engine.call("compression.get", Job, id=job.id))]

    last = await _followed(stopped, read, job_table, json=json, ended=lambda jobs: jobs[0].state in ENDED)
    if not last:
        sys.stderr.write(f"tidegate: job {printable(job.id)} continues in the engine\n")
        return 0
    [job] = last
    if job.error is not None and not _draws(json=json):  # a table shows the error itself
        sys.stderr.write(f"tidegate: {printable(job.error.message)}\n")
    if job.skipped and job.state is State.DONE:
        sys.stderr.write(f"tidegate: not in the archive: {job.skipped} sockets, pipes or devices\n")
    return 0 if job.state is State.DONE else 1


async def cancel(stopped: asyncio.Event, job: str, *, json: bool, url: str) -> int:
    """Cancel `job`, wait until it has ended, and show it. Return the exit code: 1 if it was not cancelled.

    Setting `stopped` ends the wait. Raises `EngineRefused` and `Unreachable`.
    """
    engine = Engine(url)
    first = await engine.call("compression.cancel", Job, id=job)

    async def end() -> Job:
        last = first
        while last.state is State.CANCELLING:
            await asyncio.sleep(REFRESH_S)
            last = await retried(lambda: engine.call("compression.get", Job, id=job))
        return last

    last = await until(stopped, end())
    _write([last or first], job_table, json=json)
    return 0 if last is None or last.state is State.CANCELLED else 1


async def show_jobs(stopped: asyncio.Event, *, follow: bool, json: bool, url: str) -> int:
    """Show the jobs of the engine at `url`. Raises `EngineRefused` and `Unreachable`."""
    engine = Engine(url)

    async def read() -> Sequence[Job]:
        jobs = (await engine.call("compression.list", JobList)).jobs
        return running_first(jobs) if follow else jobs

    await _shown(stopped, read, job_table, follow=follow, json=json)
    return 0


async def show_agents(stopped: asyncio.Event, *, follow: bool, json: bool, url: str) -> int:
    """Show the agents of the engine at `url`. Raises `EngineRefused` and `Unreachable`."""
    engine = Engine(url)

    async def read() -> Sequence[AgentStatus]:
        return (await engine.call("agents.list", AgentList)).agents

    await _shown(stopped, read, agent_table, follow=follow, json=json)
    return 0


async def retried(call: Callable[[], Awaitable[Job]], *, retry_s: float = RETRY_S) -> Job:
    """Return the result of `call`, retrying while the engine is unreachable. Raises `Unreachable` after `retry_s`."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + retry_s
    while True:
        try:
            return await call()
        except Unreachable:
            if clock() >= give_up_at:
                raise
            await asyncio.sleep(REFRESH_S)


def path_text(path: Path) -> str:
    """Return `path` in the form that the engine accepts: absolute, and as a ``file:`` URI if it is not UTF-8."""
    absolute = path.absolute()
    try:
        str(absolute).encode()
    except UnicodeEncodeError:
        return absolute.as_uri()
    return str(absolute)


def running_first(jobs: Sequence[Job]) -> Sequence[Job]:
    """Sort `jobs`: first those that have not ended, in their order, then the others, latest first.

    A terminal may have too few lines for all of them.
    """
    ended = [job for job in jobs if job.state in ENDED]
    return [job for job in jobs if job.state not in ENDED] + ended[::-1]


def job_table(jobs: Sequence[Job]) -> RenderableType:
    """Return a table with a line for each job, and the errors of failed jobs below it."""
    table = _table("Job", "State", "Progress", "", "Speed", "Left", "Ratio", "Result")
    for job in jobs:
        table.add_row(
            Text(printable(job.id)),
            Text(job.state, _STYLES.get(job.state, "cyan")),
            ProgressBar(total=100, completed=_bar(job), width=12),
            f"{int(_bar(job))} %",
            "" if job.rate_bytes_per_s is None else f"{size_text(job.rate_bytes_per_s)}/s",
            "" if job.eta_s is None else f"{job.eta_s:.0f} s",
            "" if job.ratio is None else f"{job.ratio:.2f}",
            Text(printable(_from_here(job.destination))),
        )
    failures = [Text(printable(f"{job.id}: {job.error.message}"), "red") for job in jobs if job.error is not None]
    return Group(table, *failures)


def agent_table(agents: Sequence[AgentStatus]) -> RenderableType:
    """Return a table with a line for each agent."""
    table = _table("Agent", "State", "Process", "Job", "Done", "Failed", "CPU", "Memory", "Last trouble")
    for agent in agents:
        table.add_row(
            Text(printable(agent.id)),
            Text(agent.state, _STYLES.get(agent.state, "cyan")),
            "" if agent.pid is None else str(agent.pid),
            Text(printable(agent.job or "")),
            str(agent.jobs_done),
            str(agent.jobs_failed),
            "" if agent.cpu_percent is None else f"{agent.cpu_percent} %",
            "" if agent.memory_bytes is None else size_text(agent.memory_bytes),
            Text(printable(agent.error or "")),
        )
    return table


def size_text(size: float) -> str:
    """Return a size in bytes as short text, such as ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


async def _shown(
    stopped: asyncio.Event, read: Callable[[], Awaitable[Sequence[T]]], draw: Draw[T], *, follow: bool, json: bool
) -> None:
    if follow:
        await _followed(stopped, read, draw, json=json, ended=lambda _: False)
    else:
        _write(await read(), draw, json=json)


async def _followed(
    stopped: asyncio.Event,
    read: Callable[[], Awaitable[Sequence[T]]],
    draw: Draw[T],
    *,
    json: bool,
    ended: Callable[[Sequence[T]], bool],
) -> Sequence[T] | None:
    """Call `read` and show its items repeatedly until `ended` accepts them. Return these items; None if `stopped`.

    On a terminal, one table is redrawn. Elsewhere, only changed items are printed.
    """
    live = Live(auto_refresh=False) if _draws(json=json) else None

    async def show() -> Sequence[T]:
        before: Sequence[T] = ()
        while True:
            items = await read()
            if live is not None:
                live.update(draw(items), refresh=True)
            elif changed := [item for item in items if item not in before]:
                _write(changed, draw, json=json)
            if ended(items):
                return items
            before = items
            await asyncio.sleep(REFRESH_S)

    with live or contextlib.nullcontext():
        return await until(stopped, show())


def _write(items: Sequence[T], draw: Draw[T], *, json: bool) -> None:
    if _draws(json=json):
        Console().print(draw(items))
        return
    for item in items:
        line = printable_json(msgspec.json.encode(item).decode()) if json else printable(_line(item))
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _draws(*, json: bool) -> bool:
    return not json and sys.stdout.isatty()


def _line(item: Job | AgentStatus) -> str:
    """Return one line of text for a job or an agent, for output that is not a terminal."""
    if isinstance(item, Job):
        return f"{item.id} {item.state} {item.percent:.1f}% {item.path} -> {item.destination}"
    return f"{item.id} {item.state} {item.job or '-'} done {item.jobs_done} failed {item.jobs_failed}"


def _from_here(path: str) -> str:
    """Return `path` relative to the working directory if it is in there."""
    here = f"{Path.cwd()}/"
    return path.removeprefix(here)


def _bar(job: Job) -> float:
    """Return how much of the progress bar is filled, in percent. Verifying fills it a second time."""
    if job.state is State.VERIFYING and job.bytes_read:
        return min(100.0, 100 * job.bytes_verified / job.bytes_read)
    return job.percent


def _table(*headings: str) -> Table:
    """Return a table whose last column takes the remaining width."""
    table = Table(expand=True, pad_edge=False, box=None, header_style="bold")
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    return table
