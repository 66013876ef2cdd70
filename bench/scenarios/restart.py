"""Real services that are restarted under their sources: how soon after they listen again is everything fresh?

Rows: `server`, `service`, `round`, `outage_s` from the signal until it listened, `first_s` and `last_s` after that.
Services that are not installed are named and left out.
"""

import asyncio
import contextlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.faults import HOST
from bench.recovering import REST_S
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Server, Unavailable, free_port, servers_named
from bench.watching import Event, gateway, listening

WARM_S = 5.0

PATIENCE_S = 400.0

POLL_S = 0.01
"""How often the port is tried until it listens: a connection that is closed at once."""


@dataclass(frozen=True)
class Service:
    """A program that is polled. `command` and `settings` get the port and a folder of its own."""

    name: str
    program: str
    command: Callable[[int, Path], list[str]]
    settings: Callable[[int, int], str]


def _prometheus(port: int, folder: Path) -> list[str]:
    config = folder / "prometheus.yml"
    target = f"[{{targets: ['{HOST}:{port}']}}]"
    config.write_text(f"scrape_configs: [{{job_name: self, scrape_interval: 1s, static_configs: {target}}}]\n")
    return [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={HOST}:{port}"]


def _queries(port: int, count: int) -> str:
    backend = f'[backends.real]\nurl = "http://{HOST}:{port}/api/v1"\nprotocol = "http"\n'
    one = '[sources."real.s{n}"]\nbackend = "real"\nmethod = "query?query=up%2B{n}"\ninterval_s = {s}\n'
    return backend + "".join(one.format(n=n, s=_interval_s(n)) for n in range(count))


def _aria2(port: int, folder: Path) -> list[str]:
    return ["--enable-rpc", f"--rpc-listen-port={port}", f"--dir={folder}", "--no-conf", "--quiet"]


def _stats(port: int, count: int) -> str:
    backend = f'[backends.real]\nurl = "http://{HOST}:{port}/jsonrpc"\n'
    one = '[sources."real.s{n}"]\nbackend = "real"\nmethod = "aria2.getGlobalStat"\nparams = []\ninterval_s = {s}\n'
    return backend + "".join(one.format(n=n, s=_interval_s(n)) for n in range(count))


def _interval_s(number: int) -> float:
    return (1.0, 5.0, 15.0, 30.0, 60.0)[number % 5]


SERVICES = (Service("Prometheus", "prometheus", _prometheus, _queries), Service("aria2", "aria2c", _aria2, _stats))


def run(choice: Choice) -> list[Row]:
    """`choice.subscribers` sources; the service is down for `choice.seconds`."""
    rows: list[Row] = []
    for server in servers_named(choice.servers):
        for service in SERVICES:
            try:
                rows += asyncio.run(_restarts(server, service, choice))
            except Unavailable as error:
                print(f"left out: {error}", file=sys.stderr)
    return rows


async def _restarts(server: Server, service: Service, choice: Choice) -> list[Row]:
    seen: list[tuple[float, Event]] = []
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port = free_port()
        settings = service.settings(port, choice.subscribers)
        async with contextlib.AsyncExitStack() as stack:
            running = await _started(service, port, Path(folder))
            stack.push_async_callback(lambda: _ended(running))
            host = await stack.enter_async_context(gateway(server, settings))
            await stack.enter_async_context(listening(host, lambda event: seen.append((time.time(), event))))
            for block in range(choice.blocks):
                await asyncio.sleep(REST_S if block else WARM_S)
                down_at = time.time()
                await _ended(running)
                await asyncio.sleep(choice.seconds)
                running = await _started(service, port, Path(folder))
                listened_at = time.time() - POLL_S
                fresh = await _fresh(seen, listened_at, choice.subscribers)
                rows.append(
                    {
                        "server": server.name,
                        "service": service.name,
                        "round": block,
                        "sources": choice.subscribers,
                        "outage_s": listened_at - down_at,
                        "first_s": min(fresh.values(), default=float("inf")) - listened_at,
                        "last_s": max(fresh.values()) - listened_at if len(fresh) == choice.subscribers else None,
                    }
                )
                print(f"{service.name}: {rows[-1]}", file=sys.stderr)
    return rows


async def _fresh(seen: Sequence[tuple[float, Event]], since: float, sources: int) -> dict[str, float]:
    """When each source was first said to be fresh after `since`."""
    fresh: dict[str, float] = {}
    done = 0
    while len(fresh) < sources and time.time() < since + PATIENCE_S:
        await asyncio.sleep(0.1)
        for at, event in seen[done:]:
            if at >= since and event["type"].startswith("real.") and not event["stale"]:
                fresh.setdefault(event["type"], at)
        done = len(seen)
    return fresh


async def _started(service: Service, port: int, folder: Path) -> asyncio.subprocess.Process:
    """The service, once it listens."""
    program = shutil.which(service.program)
    if program is None:
        raise Unavailable(f"{service.program} is not installed")
    command = [program, *service.command(port, folder)]
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=null, stderr=null)
    async with asyncio.timeout(60):
        while not _listens(port):
            if process.returncode is not None:
                raise Unavailable(f"{service.program} ended with {process.returncode}")
            await asyncio.sleep(POLL_S)
    return process


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


async def _ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


def table(rows: Sequence[Row]) -> Table:
    heads = ["server", "service", "sources, every 1 to 60 s", "down for, s", "first fresh, s", "last fresh, s"]
    return [heads, *map(_line, rows)]


def _line(row: Row) -> list[str]:
    seconds = (f"{row[name]:.1f}" if row[name] is not None else "not in time" for name in ("first_s", "last_s"))
    return [row["server"], row["service"], str(row["sources"]), f"{row['outage_s']:.1f}", *seconds]


RESTART = Scenario(
    "restart",
    "a real service restarted under 50 sources: fresh how long after it listens again",
    Choice(("tidegate",), subscribers=50, blocks=3, seconds=30.0),
    run,
    table,
)
