"""The engine as a program: its methods over HTTP, its start and its end.

One POST to ``/rpc`` is one JSON-RPC request or batch. Every JSON-RPC answer has status 200, errors too; a request
that is not answered has 204.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web
from pjrpc.common import REQUEST_CONTENT_TYPES

from tidegate.engine.openrpc import discoverable
from tidegate.engine.parent import end_with_parent
from tidegate.engine.rpc import Endpoint, Method
from tidegate.engine.storage import StorageMonitor
from tidegate.engine.system import SystemMonitor

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 12081
MAX_BODY_BYTES = 1024 * 1024
SHUTDOWN_S = 2.0
"""How long calls in progress may take to end when the engine stops."""


@asynccontextmanager
async def serve(
    host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, *, state_dir: Path | None = None
) -> AsyncIterator[int]:
    """Answer calls for as long as the context is open; gives the port, which the system chooses where `port` is 0.

    `state_dir` is where methods keep what must outlive the engine; none does so far. Raises `OSError` if the address
    cannot be bound. Leaving waits up to `SHUTDOWN_S` for calls in progress, then cancels them.
    """
    runner = web.AppRunner(_application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def main(
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    state_dir: Path | None = None,
    stop_with_parent: bool = False,
) -> int:
    """Run the engine until SIGTERM or SIGINT; the exit code: 0, or 1 if the address cannot be bound.

    A second signal ends the process at once. `stop_with_parent` is for a supervised child: see `end_with_parent`.
    Logs go to standard error, through structlog as it is configured or, where it is not, configured here.
    """
    if not structlog.is_configured():
        _configure_logs()
    return asyncio.run(_run(host, port, state_dir=state_dir, stop_with_parent=stop_with_parent))


def build_methods() -> dict[str, Method]:
    """The engine's methods by name. Each call makes new ones, which share no state."""
    return {"system.status": SystemMonitor().status, "storage.status": StorageMonitor().status}


async def _run(host: str, port: int, *, state_dir: Path | None, stop_with_parent: bool) -> int:
    log = structlog.get_logger()
    stopped = asyncio.Event()
    _stop_on_signals(stopped)
    if stop_with_parent:
        end_with_parent(stopped.set)
    async with AsyncExitStack() as stack:
        try:
            bound = await stack.enter_async_context(serve(host, port, state_dir=state_dir))
        except (OSError, OverflowError) as error:
            log.error(f"engine cannot listen on {_url(host, port)}: {getattr(error, 'strerror', None) or error}")
            return 1
        log.info(f"engine listening on {_url(host, bound)}")
        await stopped.wait()
    return 0


def _application() -> web.Application:
    application = web.Application(client_max_size=MAX_BODY_BYTES)
    application.router.add_get("/healthz", _healthz)
    application.router.add_post("/rpc", partial(_rpc, Endpoint(discoverable(build_methods()))))
    return application


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _rpc(endpoint: Endpoint, request: web.Request) -> web.Response:
    # Only browsers send Origin, and no page has business here: DNS rebinding would make any page a local client.
    if "Origin" in request.headers:
        raise web.HTTPForbidden(text="expected no Origin header: browsers are not served\n")
    if request.content_type not in REQUEST_CONTENT_TYPES:
        raise web.HTTPUnsupportedMediaType(text=f"expected application/json, got {request.content_type}\n")
    answer = await endpoint.answer(await request.read())
    if answer is None:
        return web.Response(status=204)
    return web.Response(body=answer, content_type="application/json")


def _stop_on_signals(stopped: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


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
