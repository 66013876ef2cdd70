"""``engine submit``, ``jobs``, ``cancel`` and ``agents``: what an engine compresses, and who does it."""

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
PATIENCE_S = 30.0
"""How long an engine may be away while a job is waited for: jobs survive it."""

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
    """Submit a job and say what became of it; 1 if `wait` and it is not done in the end.

    Setting `stopped` ends the waiting. Raises `EngineRefused` and `Unreachable`.
    """
    target = None if destination is None else path_text(destination)
    engine = Engine(url)
    params = {"path": path_text(path), "level": level, "destination": target}
    job = await engine.call("compression.submit", Job, **params)
    if not wait:
        _write([job], job_table, json=json)
        return 0

    async def read() -> Sequence[Job]:
        return [await patiently(lambda: engine.call("compression.get", Job, id=job.id))]

    last = await _followed(stopped, read, job_table, json=json, ended=lambda jobs: jobs[0].state in ENDED)
    if not last:
        sys.stderr.write(f"tidegate: job {printable(job.id)} goes on\n")
        return 0
    [job] = last
    if job.error is not None and not _draws(json=json):  # else it is below the table
        sys.stderr.write(f"tidegate: {printable(job.error.message)}\n")
    if job.skipped and job.state is State.DONE:
        sys.stderr.write(f"tidegate: not in the archive: {job.skipped} sockets, pipes or devices\n")
    return 0 if job.state is State.DONE else 1


async def cancel(stopped: asyncio.Event, job: str, *, json: bool, url: str) -> int:
    """Give `job` up, wait until it has ended and show how; 1 if it was not cancelled. As `submit` in all else."""
    engine = Engine(url)
    first = await engine.call("compression.cancel", Job, id=job)

    async def end() -> Job:
        last = first
        while last.state is State.CANCELLING:
            await asyncio.sleep(REFRESH_S)
            last = await patiently(lambda: engine.call("compression.get", Job, id=job))
        return last

    last = await until(stopped, end())
    _write([last or first], job_table, json=json)
    return 0 if last is None or last.state is State.CANCELLED else 1


async def show_jobs(stopped: asyncio.Event, *, follow: bool, json: bool, url: str) -> int:
    """Show the jobs of the engine at `url`. Raises `EngineRefused` and `Unreachable`."""
    engine = Engine(url)

    async def read() -> Sequence[Job]:
        jobs = (await engine.call("compression.list", JobList)).jobs
        return going_first(jobs) if follow else jobs

    await _shown(stopped, read, job_table, follow=follow, json=json)
    return 0


async def show_agents(stopped: asyncio.Event, *, follow: bool, json: bool, url: str) -> int:
    """Show the agents of the engine at `url`. Raises `EngineRefused` and `Unreachable`."""
    engine = Engine(url)

    async def read() -> Sequence[AgentStatus]:
        return (await engine.call("agents.list", AgentList)).agents

    await _shown(stopped, read, agent_table, follow=follow, json=json)
    return 0


async def patiently(call: Callable[[], Awaitable[Job]], *, patience_s: float = PATIENCE_S) -> Job:
    """What `call` gives, if need be after an engine that went away is back; `Unreachable` after `patience_s`."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + patience_s
    while True:
        try:
            return await call()
        except Unreachable:
            if clock() >= give_up_at:
                raise
            await asyncio.sleep(REFRESH_S)


def path_text(path: Path) -> str:
    """`path` as an engine takes it: absolute, and as a ``file:`` URI where its name is not UTF-8."""
    absolute = path.absolute()
    try:
        str(absolute).encode()
    except UnicodeEncodeError:
        return absolute.as_uri()
    return str(absolute)


def going_first(jobs: Sequence[Job]) -> Sequence[Job]:
    """Those that have not ended, as they were, then the others, the latest first: a terminal may have too few lines."""
    ended = [job for job in jobs if job.state in ENDED]
    return [job for job in jobs if job.state not in ENDED] + ended[::-1]


def job_table(jobs: Sequence[Job]) -> RenderableType:
    """A line for each job, and below them why some failed."""
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
    """So many bytes, short: ``12.3 MB``."""
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
    """Show what `read` gives again and again until it has `ended`, and return that; None if `stopped` was set first.

    On a terminal in one place, elsewhere what has changed.
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
    """For programs that read lines, and people who read their output."""
    if isinstance(item, Job):
        return f"{item.id} {item.state} {item.percent:.1f}% {item.path} -> {item.destination}"
    return f"{item.id} {item.state} {item.job or '-'} done {item.jobs_done} failed {item.jobs_failed}"


def _from_here(path: str) -> str:
    """`path` without the working directory that it is in."""
    here = f"{Path.cwd()}/"
    return path.removeprefix(here)


def _bar(job: Job) -> float:
    """Reading fills the bar once, verifying once again."""
    if job.state is State.VERIFYING and job.bytes_read:
        return min(100.0, 100 * job.bytes_verified / job.bytes_read)
    return job.percent


def _table(*headings: str) -> Table:
    """A table whose last column takes what room the others leave."""
    table = Table(expand=True, pad_edge=False, box=None, header_style="bold")
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    return table
