"""The ``watch`` command: follows a gateway's stream, as a live table on a terminal or as lines of JSON."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.live import Live

from tidegate.cli.board import Board
from tidegate.cli.signals import until
from tidegate.cli.table import render
from tidegate.client import Connected, Disconnected, Event, Gap, Item, Stream, connect
from tidegate.errors import Unreachable
from tidegate.printable import printable, printable_json

REFRESH_S = 0.25

Show = Callable[[Item], None]


class Following(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow, and when to stop: after `count` events or `duration_s` seconds; None for no limit.

    `types` are patterns, None for the gateway's defaults. With `json`, lines of JSON are printed on a terminal too.
    """

    types: tuple[str, ...] | None = None
    json: bool = False
    count: int | None = None
    duration_s: float | None = None
    token: str | None = None


async def follow(stopped: asyncio.Event, following: Following, *, url: str) -> int:
    """Show the stream of the gateway at `url` until `stopped` is set or a limit of `following` is reached.

    Return the exit code: 1 if `duration_s` passed before `count` events came, else 0. Raises `Unreachable` if the first
    connection fails, `AccessRefused`, `StreamClosed`, and `BrokenPipeError` if the reader of our output is gone.
    """
    board = not following.json and sys.stdout.isatty()
    async with (
        connect(url, types=following.types, token=following.token) as stream,
        _table(url, stream) if board else _lines() as show,
    ):
        done = await until(stopped, _shown(stream, show, following, url=url))
    return 1 if done is False else 0


async def _shown(stream: Stream, show: Show, following: Following, *, url: str) -> bool:
    """Show items until a limit of `following` is reached. Return False if `count` events did not come in time."""
    try:
        async with asyncio.timeout(following.duration_s):
            await _show_events(stream, show, count=following.count, url=url)
    except TimeoutError:
        return following.count is None
    return True


async def _show_events(stream: Stream, show: Show, *, count: int | None, url: str) -> None:
    events = 0
    was_connected = False
    async for item in stream:
        if isinstance(item, Disconnected) and not was_connected:
            raise Unreachable(f"no gateway answers at {url}: {item.reason}")
        was_connected = True
        show(item)
        events += isinstance(item, Event)
        if events == count:
            return


@asynccontextmanager
async def _lines() -> AsyncIterator[Show]:
    yield _write_line


def _write_line(item: Item) -> None:
    """Write events and gaps to standard output as the server sent them, and the connection's state to standard error.

    The JSON values are unchanged; control and format characters in strings are escaped.
    """
    match item:
        case Event() | Gap():
            sys.stdout.buffer.write(printable_json(item.raw.decode(errors="replace")).encode() + b"\n")
            sys.stdout.buffer.flush()
        case Connected():
            if item.resumed:
                sys.stderr.write("tidegate: reconnected, nothing was missed\n")
        case Disconnected():
            sys.stderr.write(f"tidegate: disconnected: {printable(item.reason)}; next try in {item.retry_in_s:.1f} s\n")


@asynccontextmanager
async def _table(url: str, stream: Stream) -> AsyncIterator[Show]:
    """A live table, redrawn every `REFRESH_S`. Other output, such as log lines, appears above it."""
    board = Board(url)
    console = Console()

    def draw(hint: str = "") -> None:
        live.update(render(board, now=datetime.now(UTC), position=stream.position, hint=hint), refresh=True)

    async def refresh() -> None:
        while True:
            draw("Ctrl-C ends")
            await asyncio.sleep(REFRESH_S)

    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        task = asyncio.create_task(refresh())
        try:
            yield lambda item: board.apply(item, now=datetime.now(UTC))
            draw()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
