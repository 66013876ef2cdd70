"""A gateway in a process of its own, at one port for good, which a test freezes, kills and starts again."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from programs import Program, tidegate

from tidegate.cli.engine_process import free_port
from tidegate.config import from_document, render


class MortalGateway:
    """`moments` are what was done to it, as (Unix time, word), in order."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.moments: list[tuple[float, str]] = []
        self._folder = folder
        self._port = port
        self._life = AsyncExitStack()
        self._program: Program | None = None

    @property
    def program(self) -> Program:
        assert self._program is not None, "it does not run"
        return self._program

    async def start(self) -> None:
        """Return once it listens."""
        running = tidegate("serve", "--config", "tidegate.toml", "--port", str(self._port), folder=self._folder)
        self._program = self._life.enter_context(running)
        await asyncio.to_thread(lambda: self.program.url)
        self._note("started")

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and it does nothing."""
        self._note("frozen")
        self.program.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.program.signal(signal.SIGCONT)
        self._note("thawed")

    def kill(self) -> None:
        """SIGKILL: no goodbye. `start` starts it again, from its state directory."""
        self._note("killed")
        self.program.signal(signal.SIGKILL)
        self.program.wait()

    def terminate(self) -> None:
        """SIGTERM: it drains."""
        self._note("terminated")
        self.program.signal(signal.SIGTERM)

    async def aclose(self) -> None:
        if self._program is not None:
            with contextlib.suppress(ProcessLookupError):
                self._program.signal(signal.SIGCONT)
        await self._life.aclose()

    def _note(self, word: str) -> None:
        self.moments.append((time.time(), word))


@asynccontextmanager
async def mortal(document: Mapping[str, object]) -> AsyncIterator[MortalGateway]:
    """A running gateway with the configuration `document`, without its port and state directory."""
    port = free_port(preferred=0)
    with tempfile.TemporaryDirectory() as folder:
        server = {"state_dir": f"{folder}/state", "allow_no_sources": True, **dict(document.get("server", {}))}  # type: ignore[call-overload]
        text = render.show(from_document({**document, "server": server}, environ={}))
        (Path(folder) / "tidegate.toml").write_text(text)
        async with aclosing(MortalGateway(Path(folder), port)) as gateway:
            await gateway.start()
            yield gateway
