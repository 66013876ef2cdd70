"""The engine as a program: serves its methods over HTTP, starts and stops.

One POST to ``/rpc`` is one JSON-RPC request or batch. Every JSON-RPC answer has status 200, also an error. A request
without an answer (only notifications) gets 204.
"""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import structlog
from aiohttp import web
from pjrpc.common import REQUEST_CONTENT_TYPES

from tidegate.engine.compression.queue import JobQueue
from tidegate.engine.compression.roots import Roots
from tidegate.engine.compression.service import Compression
from tidegate.engine.compression.store import opened
from tidegate.engine.hints import Hints
from tidegate.engine.openrpc import discoverable
from tidegate.engine.parent import end_with_parent
from tidegate.engine.rpc import Endpoint, Method
from tidegate.engine.storage import StorageMonitor
from tidegate.engine.system import SystemMonitor
from tidegate.errors import StoreError
from tidegate.loopback import is_loopback
from tidegate.signals import stopping

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 12081
MAX_BODY_BYTES = 1024 * 1024
"""Limit on a request body. Paths have at most 16 KiB, so every single call fits."""

SHUTDOWN_S = 2.0
"""How long calls in progress may take to finish when the engine stops."""

log = structlog.get_logger("tidegate.engine")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of an engine.

    `state_dir`: directory for the jobs; None keeps them in memory only.
    `roots`: the folders in which jobs may read and write.
    `agents`: the number of worker processes.
    `keep_s`, `keep_count`: ended jobs are remembered for `keep_s` seconds, but only the newest `keep_count` of them.
    `notify_url`: URL to post to when something changes, with the token in `notify_token_file`.
    """

    state_dir: Path | None = None
    roots: tuple[Path, ...] = ()
    agents: int = 2
    keep_s: float = 86_400.0
    keep_count: int = 200
    notify_url: str | None = None
    notify_token_file: Path | None = None


@asynccontextmanager
async def serve(
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    options: Options | None = None,
    listener: socket.socket | None = None,
) -> AsyncIterator[int]:
    """Answer calls while the context is open. Yields the port, which the system chooses if `port` is 0.

    A `listener` is a bound socket to use instead of `host` and `port`. Raises `OSError` if the address cannot be bound,
    `StoreError` if the state directory cannot be used. Leaving waits up to `SHUTDOWN_S` for calls in progress, then
    cancels them, and ends the agents. The next engine starts their unfinished jobs again.
    """
    async with AsyncExitStack() as stack:
        compression = await stack.enter_async_context(compression_of(options or Options()))
        runner = web.AppRunner(_application(build_methods(compression)), access_log=None, shutdown_timeout=SHUTDOWN_S)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        site = web.TCPSite(runner, host, port) if listener is None else web.SockSite(runner, listener)
        await site.start()
        if not all(is_loopback(address[0]) for address in runner.addresses):
            log.warning("engine asks for no token: anybody who can connect can compress files and see their names")
        await stack.enter_async_context(compression.running())
        yield runner.addresses[0][1]


def main(
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    options: Options | None = None,
    listen_fd: int | None = None,
    stop_with_parent: bool = False,
) -> int:
    """Run the engine until SIGTERM or SIGINT. Return the exit code: 0, or 1 if it cannot start.

    A second signal ends the process immediately. `listen_fd` and `stop_with_parent` are for a supervised child:
    `listen_fd` is a bound socket of the parent, used instead of `host` and `port`; for the other see
    `end_with_parent`. Logs go to standard error through structlog, which is configured here unless it is already.
    """
    if not structlog.is_configured():
        _configure_logs()
    listener = None
    if listen_fd is not None:
        listener = socket.socket(fileno=listen_fd)
        # Otherwise old connections of the previous engine (TIME_WAIT) would prevent listening.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host = listener.getsockname()[0]
    return asyncio.run(_run(host, port, options=options, listener=listener, stop_with_parent=stop_with_parent))


def build_methods(compression: Compression) -> dict[str, Method]:
    """Return the engine's methods by name. Each call of this function makes new monitors, which share no state."""
    return {
        "system.status": SystemMonitor().status,
        "storage.status": StorageMonitor().status,
        **compression.methods(),
    }


def state_dir_of(wanted: str | None, environ: Mapping[str, str], port: int) -> Path | None:
    """Return the state directory of the engine on `port`: `wanted`, or None if that is "".

    The default is in ``tidegate-engine`` in the XDG state home, or without a home a folder of this user in the
    temporary directory. With port 0 it is None, because a later engine could not be matched to this one's jobs.
    """
    if wanted is not None:
        return Path(wanted) if wanted else None
    if port == 0:
        return None
    home = environ.get("XDG_STATE_HOME") or (f"{environ['HOME']}/.local/state" if environ.get("HOME") else "")
    if not Path(home).is_absolute():
        return Path(tempfile.gettempdir()) / f"tidegate-engine-{os.getuid()}-{port}"
    return Path(home) / "tidegate-engine" / str(port)


def default_roots() -> tuple[Path, ...]:
    """Return the working directory, or nothing if that is ``/``, as it is for services."""
    here = Path.cwd()
    return () if here == here.parent else (here,)


async def _run(
    host: str, port: int, *, options: Options | None, listener: socket.socket | None, stop_with_parent: bool
) -> int:
    stopped = asyncio.Event()
    if stop_with_parent:
        end_with_parent(stopped.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(stopping(lambda _: stopped.set()))
        try:
            bound = await stack.enter_async_context(serve(host, port, options=options, listener=listener))
        except (OSError, OverflowError) as error:
            log.error(f"engine cannot listen on {_url(host, port)}: {getattr(error, 'strerror', None) or error}")
            return 1
        except StoreError as error:
            log.error(f"engine cannot start: {error}")
            return 1
        log.info(f"engine listening on {_url(host, bound)}")
        await stopped.wait()
    return 0


@asynccontextmanager
async def compression_of(options: Options) -> AsyncIterator[Compression]:
    """Open the store, load the jobs, start the hints, and yield the ready service. Leaving closes all of it."""
    async with opened(options.state_dir) as store:
        hints = Hints(options.notify_url, token_file=options.notify_token_file)
        queue = JobQueue(await store.load(), keep_s=options.keep_s, keep_count=options.keep_count)
        hinting = asyncio.create_task(hints.run(), name="hints")
        try:
            yield Compression(
                store=store, queue=queue, roots=Roots(options.roots), agents=options.agents, changed=hints.changed
            )
        finally:
            hinting.cancel()
            await asyncio.wait({hinting})


def _application(methods: Mapping[str, Method]) -> web.Application:
    application = web.Application(client_max_size=MAX_BODY_BYTES)
    application.router.add_get("/healthz", _healthz)
    application.router.add_post("/rpc", partial(_rpc, Endpoint(discoverable(methods))))
    return application


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _rpc(endpoint: Endpoint, request: web.Request) -> web.Response:
    # Only browsers send Origin. Refuse them all: with DNS rebinding, any web page could call a local engine.
    if "Origin" in request.headers:
        raise web.HTTPForbidden(text="expected no Origin header: browsers are not served\n")
    if request.content_type not in REQUEST_CONTENT_TYPES:
        raise web.HTTPUnsupportedMediaType(text=f"expected application/json, got {request.content_type}\n")
    answer = await endpoint.answer(await request.read())
    if answer is None:
        return web.Response(status=204)
    return web.Response(body=answer, content_type="application/json")


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/rpc"


def _configure_logs() -> None:
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
