"""What it takes to run a foreign service: a folder and ports of its own, and a process group that can be signalled.

Nothing of the system's own configuration is read or changed: each service gets its own files, in its own folder, and
listens on loopback only.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 60.0
"""How long a service may take to start: generous, since many start side by side on a busy machine."""

TRY_S = 3.0
"""How long to wait for one answer of a service while it starts."""

HASHES = ("1" * 40, "2" * 40)
"""Of torrents that nobody has."""

MAGNET = "magnet:?xt=urn:btih:{}&dn=test"

Said = Mapping[tuple[str, str | None], object]
"""The data of each event that is expected, by type and key."""


@dataclass
class Place:
    """Where a service runs: `folder` for its files, `port` where the recipe's backend is, `ports` for all else."""

    folder: Path
    port: int
    ports: list[int]
    http: aiohttp.ClientSession
    process: asyncio.subprocess.Process | None = None
    held: list[asyncio.StreamWriter] = field(default_factory=list)
    """Connections that a change has made, and that stay open until the service ends."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the service has written to its standard output and error."""
        return self.folder / "service.log"

    def file(self, name: str, text: str) -> str:
        """Write a file into the folder, and return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON that the service answers to a GET of `path`."""
        async with self.http.get(self.url + path, **options) as response:
            response.raise_for_status()
            return await response.json(content_type=None)

    async def post(self, path: str, body: object, **options: Any) -> Any:
        """The JSON that the service answers to a POST of `body`, as JSON."""
        async with self.http.post(self.url + path, json=body, **options) as response:
            response.raise_for_status()
            return await response.json(content_type=None)

    async def text(self, path: str) -> str:
        """The text that the service answers to a GET of `path`."""
        async with self.http.get(self.url + path) as response:
            response.raise_for_status()
            return await response.text()


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service of the table.

    `command` writes the service's files and returns what to run. `secrets` are the contents of the files that the
    recipe names. `said` asks the service itself what is expected, and raises while it cannot answer; a source of which
    it says nothing is not compared. `prepare` is done once after the first start. `change` changes something, which is
    one event of `changed`: its type, and its key unless that is None. `restless` types change by themselves, so that
    only their keys are compared.
    """

    recipe: str
    program: str
    package: str
    address: str
    """What stands for the service's address in the recipe: a host with its port, or the path of a socket."""

    command: Callable[[Place], Sequence[str]]
    said: Callable[[Place], Awaitable[Said]]
    change: Callable[[Place], Awaitable[None]]
    changed: tuple[str, str | None]
    prepare: Callable[[Place], Awaitable[None]] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    socket: str | None = None
    """The name of its Unix socket in the folder, if the recipe's address is one."""

    restless: frozenset[str] = frozenset()

    def found(self) -> str | None:
        """The path of its program; None if it is not installed."""
        return shutil.which(self.program)

    def address_at(self, place: Place) -> str:
        """What stands in the recipe for the address, when the service runs at `place`."""
        return str(place.folder / self.socket) if self.socket else f"127.0.0.1:{place.port}"


def free_ports(count: int) -> list[int]:
    """Different ports on loopback that nobody has now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


async def start(service: Service, place: Place) -> None:
    """Start the service, and wait until it answers. Raises `AssertionError`, with what it wrote, if it does not."""
    with place.log.open("ab") as output:
        place.process = await asyncio.create_subprocess_exec(
            *service.command(place),
            cwd=place.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": str(place.folder), **service.environ},
            process_group=0,
        )
    await ask(service, place)


async def ask(service: Service, place: Place) -> Said:
    """Ask the service until it answers. Raises `AssertionError`, with what it wrote, if it does not."""
    assert place.process is not None
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            async with asyncio.timeout(TRY_S):
                return await service.said(place)
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError) as error:
            if asyncio.get_running_loop().time() > deadline or place.process.returncode is not None:
                wrote = place.log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"{service.recipe} does not answer: {error!r}\n{wrote}") from error
            await asyncio.sleep(0.1)


async def end(place: Place) -> None:
    """Kill the service with all that it has started."""
    if place.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(place.process.pid, signal.SIGKILL)
        await place.process.wait()
    for writer in place.held:
        writer.close()
    place.held.clear()


def send(place: Place, number: signal.Signals) -> None:
    """Send a signal to the service and all that it has started."""
    assert place.process is not None
    os.killpg(place.process.pid, number)
