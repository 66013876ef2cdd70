"""Answers that are too long or have no end cost a real gateway's process what `docs/failure-modes.md` says, no more."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tidegate.verify.deployment import GATEWAY, GATEWAY_READY
from tidegate.verify.faultproxy import Fault, FaultProxy
from tidegate.verify.frames import read_error
from tidegate.verify.observer import Observer, observing
from tidegate.verify.programs import Program, running_program

pytestmark = pytest.mark.real

MIB = 1024 * 1024
RESPONSE_BYTES = 8 * MIB
"""The default."""

SLACK_BYTES = 6 * MIB
"""What a process that does this and that may need beside it."""

FAILURES = 5
PATIENCE_S = 60.0

DOCUMENT = Path(__file__).parents[2] / "docs" / "failure-modes.md"

PAD = RESPONSE_BYTES - 100
RESULTS = {
    "plain text": b'"%b"' % (b"x" * PAD),
    "text beyond the BMP": b'"\xf0\x9f\x8c\x8a%b"' % (b"x" * (PAD - 4)),
    "numbers": b"[%b1]" % (b"1," * (PAD // 2 - 1)),
    "blanks": b'["%b"%b]' % (b"x" * 2 * MIB, b" " * (PAD - 2 * MIB)),
}
"""Answers of just below the limit, whose result is too long for an event."""

FAULTS = {"100 MB": Fault.huge_body(), "without end": Fault.endless_body(), "nested": Fault.deep_json(1_000_000)}


async def test_no_answer_takes_more_memory_than_is_documented(tmp_path: Path) -> None:
    peaks: dict[str, int] = {}
    async with (
        backend() as (url, answer_with),
        FaultProxy(upstream=url) as proxy,
        gateway(proxy.url, tmp_path) as program,
        observing(program.url, label="a client of everything", types=["*"]) as observer,
    ):
        await fresh(observer, after=0)
        for name in (*FAULTS, *RESULTS):
            before, mark = program.resident_bytes(), observer.mark
            forget_peak(program)
            answer_with(RESULTS.get(name, b"1"))
            if name in FAULTS:
                proxy.set(FAULTS[name])
            await failed(observer, FAILURES, after=mark)
            peaks[name] = program.peak_bytes() - before
            proxy.clear()
            answer_with(b"1")
            await fresh(observer, after=observer.mark)
    shown = {name: f"{peak / MIB:.1f} MiB" for name, peak in peaks.items()}
    assert max(peaks.values()) <= documented_factor() * RESPONSE_BYTES + SLACK_BYTES, shown
    assert peaks["without end"] <= 2 * RESPONSE_BYTES + SLACK_BYTES, shown
    assert peaks["100 MB"] <= SLACK_BYTES, "what announces its length is not even read"


def documented_factor() -> int:
    """How many times `response_bytes` an answer may take, as operators are told."""
    match = re.search(r"takes at most (\w+) times `response_bytes`", DOCUMENT.read_text())
    assert match is not None
    return ("none", "one", "two", "three", "four", "five").index(match[1])


def forget_peak(program: Program) -> None:
    """Let the process's peak count from now on: proc_pid_clear_refs(5)."""
    Path(f"/proc/{program.pid}/clear_refs").write_text("5")


async def fresh(observer: Observer, *, after: int) -> None:
    def told() -> bool:
        return any(frame.stale is False for frame in observer.values(["b.status"], after=after))

    await observer.when(lambda: told() or None, within_s=PATIENCE_S)


async def failed(observer: Observer, count: int, *, after: int) -> None:
    """Wait until `count` calls in a row have failed for what their answers were."""

    def told() -> bool:
        errors = [read_error(frame) for frame in observer.frames[after:] if frame.type == "rpc_error"]
        assert {error.error_code for error in errors} <= {"RPC_INVALID_RESPONSE"}, errors
        return any(error.consecutive_failures >= count for error in errors)

    await observer.when(lambda: told() or None, within_s=PATIENCE_S)


@asynccontextmanager
async def backend() -> AsyncIterator[tuple[str, Callable[[bytes], None]]]:
    """A JSON-RPC backend that answers every call with the result, as JSON text, that it was given last."""
    results = [b"1"]

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        body = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (asked["id"], results[-1])
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/rpc", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", results.append
    finally:
        await runner.cleanup()


@asynccontextmanager
async def gateway(backend_url: str, directory: Path) -> AsyncIterator[Program]:
    config = directory / "tidegate.toml"
    config.write_text(f"""\
[server]
port = 0
state_dir = ""
[limits]
rpc_error_interval_s = 0.01
[backends.b]
url = "{backend_url}/rpc"
timeout_s = 30.0
breaker.failure_threshold = 1000
[sources."b.status"]
backend = "b"
method = "status"
interval_s = 0.1
""")
    async with running_program("gateway", (*GATEWAY, "--config", str(config)), ready=GATEWAY_READY) as program:
        yield program
