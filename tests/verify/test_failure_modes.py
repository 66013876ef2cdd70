"""``docs/failure-modes.md`` against the truth: each fault is made to happen, and classified."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from scripted_http import answering, http_response, scripted
from unprivileged import unprivileged

from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.call import Reading
from tidegate.core.polling.outcome import Answer, ClassifyPolicy, Fault, Outcome, Verdict, classify
from tidegate.core.polling.source_values import SourceSpec
from tidegate.core.shaping import Shape
from tidegate.errors import DeadlineExceeded, ErrorCode
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.outbound.clock import SystemClock
from tidegate.ports import AsCsv, AsPrometheus, AsText, Backend, Call, HttpRequest
from tidegate.runtime.exchange import Prepared, close, exchange, prepare
from tidegate.verify.faultproxy import FAULTS, FaultProxy, fault_from

TEXT = (Path(__file__).parents[2] / "docs/failure-modes.md").read_text()

TIMEOUT_S = 0.3
VERDICTS = {
    "held against the backend": Verdict.FAILURE,
    "proof of life": Verdict.ALIVE,
    "nothing was sent": Verdict.IGNORED,
    "no failure": Verdict.SUCCESS,
}


class Row(msgspec.Struct, frozen=True):
    """A row of the tables of calls."""

    what: str
    proxy: str
    code: str
    verdict: str
    says: str


def table_rows(heading: str) -> list[Row]:
    """The rows of the tables under a heading of the third level."""
    section = TEXT.split(f"### {heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


ROWS = [
    row
    for heading in ("Faults of the transport", "Answers of HTTP", "Answers of JSON-RPC", "Answers that are no JSON")
    for row in table_rows(heading)
]


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """A backend that answers every call well."""

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        answers = [{"jsonrpc": "2.0", "id": one["id"], "result": {"n": 1}} for one in _listed(asked)]
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    app = web.Application()
    app.router.add_post("/rpc", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def _listed(asked: object) -> list[dict[str, object]]:
    return asked if isinstance(asked, list) else [asked]  # type: ignore[list-item]


def test_every_fault_of_the_proxy_has_a_row() -> None:
    assert {fault_name(row) for row in ROWS if row.proxy} == set(FAULTS)


def test_every_error_code_is_explained() -> None:
    assert {code for code in ErrorCode if code not in TEXT} == set()


def test_every_row_without_a_fault_of_the_proxy_is_made_to_happen() -> None:
    assert {row.what for row in ROWS if not row.proxy} == set(MADE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
async def test_a_row_says_what_happens(row: Row, upstream: str, tmp_path: Path) -> None:
    result = await (through_the_proxy(row, upstream) if row.proxy else MADE[row.what](upstream, tmp_path))
    if isinstance(result, Answer | Fault):
        outcome: Outcome = result
    else:
        outcome = classify(result, elapsed_s=0.0, policy=ClassifyPolicy())
    assert outcome.verdict is VERDICTS[row.verdict]
    if isinstance(outcome, Answer):
        assert (row.code, row.says) == ("", "")
    else:
        assert (outcome.code, True) == (row.code, row.says in outcome.message), outcome.message
        assert row.says


def fault_name(row: Row) -> str:
    return row.proxy.strip("`").split()[0]


async def through_the_proxy(row: Row, upstream: str) -> msgspec.Raw | BaseException:
    """What a call that the row's fault hits ends with."""
    name, *settings = row.proxy.strip("`").split()
    parameters = {key: msgspec.json.decode(value) for key, _, value in (text.partition("=") for text in settings)}
    calls = [Call("system.status")] * (2 if name == "partial_batch" else 1)
    async with FaultProxy(upstream=upstream) as proxy:
        backend = JsonRpcBackend(HttpOptions(f"{proxy.url}/rpc", response_bytes=1024 * 1024))
        assert isinstance(await ended(backend, calls), msgspec.Raw)
        proxy.set(fault_from(name, parameters))
        result = await ended(backend, calls, timeout_s=TIMEOUT_S if row.code == "RPC_TIMEOUT" else 30.0)
        await backend.aclose()
        proxy.clear()
        return result


async def ended(
    backend: Backend, calls: Sequence[Call] = (Call("system.status"),), *, timeout_s: float = 30.0
) -> msgspec.Raw | BaseException:
    """What the first of `calls` ends with."""
    try:
        async with asyncio.timeout(timeout_s):
            return (await backend.call(calls))[0]
    except TimeoutError:
        return DeadlineExceeded(f"expected an answer within {timeout_s:g} s")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is judged
        return error


async def no_such_name(_: str, __: Path) -> msgspec.Raw | BaseException:
    return await once(HttpOptions("http://name.invalid/rpc"))


async def no_tls(upstream: str, _: Path) -> msgspec.Raw | BaseException:
    return await once(HttpOptions(upstream.replace("http", "https", 1) + "/rpc"))


async def no_credentials(upstream: str, directory: Path) -> msgspec.Raw | BaseException:
    return await once(HttpOptions(f"{upstream}/rpc", bearer_token_file=directory / "none"))


async def no_socket(_: str, directory: Path) -> msgspec.Raw | BaseException:
    return await once(HttpOptions("http://h", socket=directory / "none"))


async def nobody_listens(_: str, directory: Path) -> msgspec.Raw | BaseException:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(directory / "s"))
    return await once(HttpOptions("http://h", socket=directory / "s"))


async def no_right_to_connect(_: str, directory: Path) -> msgspec.Raw | BaseException:
    async with scripted(answering(http_response(b"{}")), path=directory / "s"):
        directory.chmod(0)
        try:
            with unprivileged():
                return await once(HttpOptions("http://h", socket=directory / "s"))
        finally:
            directory.chmod(0o700)


async def another_kind_of_file(_: str, directory: Path) -> msgspec.Raw | BaseException:
    return await once(HttpOptions("http://h", socket=directory))


async def a_full_queue(_: str, directory: Path) -> msgspec.Raw | BaseException:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(directory / "s"))
        listener.listen(0)
        first.connect(str(directory / "s"))
        return await once(HttpOptions("http://h", socket=directory / "s"), timeout_s=TIMEOUT_S)


async def no_proxy(_: str, __: Path) -> msgspec.Raw | BaseException:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return await once(HttpOptions("http://h", proxy=f"http://127.0.0.1:{bound.getsockname()[1]}"))


def no_tunnel(status: str) -> Callable[[str, Path], Awaitable[msgspec.Raw | BaseException]]:
    async def made(_: str, __: Path) -> msgspec.Raw | BaseException:
        async with scripted(answering(http_response(b"", status=status))) as proxy:
            return await once(HttpOptions("https://h", proxy=f"http://127.0.0.1:{proxy.port}"))

    return made


async def too_long(upstream: str, _: Path) -> Outcome:
    return await polled(upstream, event_bytes=4)


async def nothing_there(upstream: str, _: Path) -> Outcome:
    return await polled(upstream, select="/agents")


async def polled(upstream: str, *, event_bytes: int = 1000, select: str = "") -> Outcome:
    """What one poll comes to, the mapping included."""
    spec = SourceSpec(type="a", backend="engine", interval_s=1.0, timeout_s=TIMEOUT_S)
    source = SourcePlan(spec=spec, call=Call("system.status"), breaker="engine", shape=Shape(select=select))
    plan = BackendPlan(
        name="engine",
        timeout_s=30.0,
        batch=False,
        connections=1,
        breaker=BreakerRules(),
        policy=ClassifyPolicy(),
        event_bytes=event_bytes,
        rpc_error_interval_s=30.0,
        sources=[source],
    )
    backend = JsonRpcBackend(HttpOptions(f"{upstream}/rpc"))
    prepared = await prepare(backend, plan, SystemClock())
    assert isinstance(prepared, Prepared)
    [(outcome, _)] = await exchange(prepared, plan, [source], SystemClock())
    await close(backend, "engine")
    return outcome


def saying(answer: bytes) -> Callable[[str, Path], Awaitable[msgspec.Raw | BaseException]]:
    """What a call ends with whose answer is `answer`, byte for byte."""

    async def made(_: str, __: Path) -> msgspec.Raw | BaseException:
        async with scripted(answering(answer)) as server:
            return await once(HttpOptions(server.url))

    return made


def reading(reading: Reading, body: bytes) -> Callable[[str, Path], Awaitable[msgspec.Raw | BaseException]]:
    """What a call ends with whose answer is `body`, and is read so."""

    async def made(_: str, __: Path) -> msgspec.Raw | BaseException:
        headers = "Content-Type: text/html\r\n" if body.startswith(b"<") else ""
        async with scripted(answering(http_response(body, headers=headers))) as server:
            backend = HttpJsonBackend(HttpOptions(server.url))
            result = await ended(backend, [Call("p", http=HttpRequest(reading=reading))])
            await backend.aclose()
            return result

    return made


async def once(options: HttpOptions, *, timeout_s: float = 30.0) -> msgspec.Raw | BaseException:
    backend = JsonRpcBackend(options)
    try:
        return await ended(backend, timeout_s=timeout_s)
    finally:
        await backend.aclose()


MADE: dict[str, Callable[[str, Path], Awaitable[msgspec.Raw | BaseException | Outcome]]] = {
    "its name cannot be resolved": no_such_name,
    "its `socket` is not there": no_socket,
    "nobody listens on its `socket` any more": nobody_listens,
    "the gateway's user may not connect to its `socket`; the log says whose it is": no_right_to_connect,
    "its `socket` is something else": another_kind_of_file,
    "the queue of its `socket` is full: tried again and again": a_full_queue,
    "its `proxy` is down": no_proxy,
    "its `proxy` cannot, or may not, connect to it (`https://`)": no_tunnel("503 E"),
    "its `proxy` refuses our credentials (`https://`)": no_tunnel("407 E"),
    "TLS fails: no TLS there, or a certificate that is not trusted": no_tls,
    "a secret, or `bearer_token_file`, cannot be read": no_credentials,
    "an answer that breaks HTTP: a header line without a colon, `Content-Length` twice, a bad chunk size": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}")
    ),
    "a head, interim answers (1xx) included, of more than 64 KiB, or more than 100 interim answers": (
        saying(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 80_000 + b"\r\n\r\n")
    ),
    "an error that comes with a status other than 2xx, as aria2's do": (
        saying(http_response(b'{"id":1,"error":{"code":1,"message":"Unauthorized"}}', status="400 Bad Request"))
    ),
    "a page instead of metrics, also if none of the wanted ones were in it": reading(AsPrometheus(("a",)), b"<p>\nb 1"),
    "a page instead of CSV": reading(AsCsv(), b"<p>"),
    "a line of CSV with more or fewer values than there are names": reading(AsCsv(), b"a,b\n1"),
    "bytes that are not in the charset of the answer": reading(AsText("(?P<a>b)"), b"\xff"),
    "a text in which the pattern finds nothing, or searches for more than 25 ms": reading(AsText("(?P<a>b)"), b"a"),
    "data longer than `event_bytes`": too_long,
    "nothing at the source's `select` or `items`, or a key twice": nothing_there,
}
