"""From the socket to the outcome: which failures of our own backends are unreachable."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from polling import backend_plan, source_plan
from scripted_http import answering, hanging, http_response, scripted

from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import Fault
from tidegate.errors import ErrorCode
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.outbound.clock import SystemClock
from tidegate.runtime.exchange import Prepared, can_knock, exchange, prepare, reached

Kind = type[HttpJsonBackend] | type[JsonRpcBackend]

PLAN = backend_plan(source_plan("a.x", 1.0), rules=BreakerRules())
SOON = msgspec.structs.replace(PLAN, timeout_s=0.1)

kinds = pytest.mark.parametrize("kind", [HttpJsonBackend, JsonRpcBackend])


@contextmanager
def bound() -> Iterator[socket.socket]:
    """A socket with a port of 127.0.0.1. Until it listens, it refuses connections."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        yield made


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


async def fault(backend: HttpJsonBackend | JsonRpcBackend, plan: BackendPlan) -> Fault:
    prepared = await prepare(backend, plan, SystemClock())
    assert isinstance(prepared, Prepared)
    [(outcome, _)] = await exchange(prepared, plan, plan.sources, SystemClock())
    assert isinstance(outcome, Fault)
    return outcome


@kinds
async def test_a_refused_connection_is_unreachable_and_no_knock_reaches_it(kind: Kind) -> None:
    with bound() as listener:
        backend = kind(HttpOptions(url_of(listener)))
        found = await fault(backend, PLAN)
        assert (found.code, found.unreachable) == (ErrorCode.RPC_DISCONNECT, True)
        assert can_knock(backend)
        assert not await reached(backend, PLAN, SystemClock())
        listener.listen()
        assert await reached(backend, PLAN, SystemClock())
        await backend.aclose()


@kinds
async def test_a_deadline_while_connecting_is_unreachable_and_so_is_one_of_a_knock(kind: Kind) -> None:
    with bound() as listener, socket.socket() as first:
        listener.listen(0)
        first.connect(listener.getsockname())  # now it is full: the kernel drops every SYN
        backend = kind(HttpOptions(url_of(listener)))
        found = await fault(backend, SOON)
        assert (found.code, found.unreachable) == (ErrorCode.RPC_TIMEOUT, True)
        assert not await reached(backend, SOON, SystemClock())
        await backend.aclose()


@kinds
async def test_a_deadline_while_waiting_for_the_answer_is_not(kind: Kind) -> None:
    async with scripted(hanging) as server:
        backend = kind(HttpOptions(server.url))
        assert await reached(backend, PLAN, SystemClock())  # so that the call need not connect within its deadline
        found = await fault(backend, SOON)
        assert (found.code, found.unreachable) == (ErrorCode.RPC_TIMEOUT, False)
        assert len(server.peers) == 1
        await backend.aclose()


@kinds
async def test_an_error_of_the_service_is_not(kind: Kind) -> None:
    async with scripted(answering(http_response(b"", status="500 E"))) as server:
        backend = kind(HttpOptions(server.url))
        assert not (await fault(backend, PLAN)).unreachable
        await backend.aclose()


@kinds
async def test_the_secret_of_a_call_is_what_the_file_holds(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "token"
    backend = kind(HttpOptions("http://h/", bearer_token_file=file))
    missing = await prepare(backend, PLAN, SystemClock())
    assert isinstance(missing, Fault)
    assert missing.code is ErrorCode.RPC_AUTH
    secrets = []
    for content in ("one", "one\n", "two"):
        file.write_text(content)
        prepared = await prepare(backend, PLAN, SystemClock())
        assert isinstance(prepared, Prepared)
        secrets.append(prepared.secret)
    assert secrets[0] is not None
    assert secrets[0] == secrets[1] != secrets[2]
    without = await prepare(kind(HttpOptions("http://h/")), PLAN, SystemClock())
    assert isinstance(without, Prepared)
    assert without.secret is None
