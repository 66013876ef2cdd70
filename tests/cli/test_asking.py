"""One call for `doctor` and `call`: what is kept of it, and that it ends."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from tidegate.cli import asking
from tidegate.cli.asking import asked
from tidegate.config import from_document
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.errors import BackendError, Disconnected, ErrorCode, HttpStatus, NoCredentials
from tidegate.plan import plan
from tidegate.ports import Ask, Backend, Call

Answers = Sequence[msgspec.Raw | BackendError]


class Scripted:
    """A backend that answers, or raises, what it is given. It repeats secrets, and has seen no connection."""

    connected = False

    def __init__(self, *answers: msgspec.Raw | BackendError, error: BaseException | None = None) -> None:
        self._answers = answers
        self._error = error

    async def __call__(self, calls: Sequence[Call]) -> Answers:
        if self._error is not None:
            raise self._error
        return self._answers

    @staticmethod
    def scrubbed(text: str) -> str:
        return text.replace("sesame", "***")

    async def prepare(self) -> Ask:
        return self

    async def call(self, calls: Sequence[Call]) -> Answers:
        raise AssertionError("it is prepared first")

    async def aclose(self) -> None:
        pass


def planned(timeout_s: float = 1.0) -> BackendPlan:
    backend = {"url": "http://127.0.0.1", "timeout_s": timeout_s}
    document = {"backends": {"b": backend}, "sources": {"s": {"backend": "b", "method": "x", "select": "/a"}}}
    return plan(from_document(document, environ={})).backends[0].polling


async def reply(backend: Backend, timeout_s: float = 1.0) -> asking.Reply:
    polling = planned(timeout_s)
    return await asked(backend, polling, polling.sources[0])


async def test_the_whole_answer_is_kept_beside_what_is_made_of_it() -> None:
    found = await reply(Scripted(msgspec.Raw(b'{"a":1,"b":2}')))
    assert (found.value, found.answer, found.fault) == (msgspec.Raw(b"1"), msgspec.Raw(b'{"a":1,"b":2}'), None)


async def test_the_answer_is_kept_too_if_nothing_can_be_made_of_it() -> None:
    found = await reply(Scripted(msgspec.Raw(b'{"b":2}')))
    assert found.fault is not None
    assert (found.value, found.answer, found.error) == (None, msgspec.Raw(b'{"b":2}'), None)


@pytest.mark.parametrize("is_raised", [False, True])
async def test_the_error_is_kept(is_raised: bool) -> None:
    error = HttpStatus(404, "no")
    found = await reply(Scripted(error=error) if is_raised else Scripted(error))
    assert found.error is error
    assert found.fault is not None
    assert found.fault.code is ErrorCode.RPC_HTTP_STATUS


async def test_whether_a_connection_stood_is_passed_on() -> None:
    found = await reply(Scripted(error=Disconnected("gone")))
    assert found.fault is not None
    assert found.fault.unreachable


async def test_what_a_backend_repeats_can_be_scrubbed() -> None:
    assert (await reply(Scripted(msgspec.Raw(b'{"a":1}')))).scrubbed("open sesame") == "open ***"
    assert (await reply(Scripted(error=Disconnected("gone")))).scrubbed("open sesame") == "open ***"


async def test_without_credentials_nothing_is_asked() -> None:
    class Unprepared(Scripted):
        async def prepare(self) -> Ask:
            raise NoCredentials("no such file")

    found = await reply(Unprepared())
    assert found.fault is not None
    assert (found.fault.code, found.fault.message) == (ErrorCode.RPC_AUTH, "no such file")


async def test_a_backend_that_cannot_be_cancelled_does_not_keep_others_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = asyncio.Event()

    class Stubborn(Scripted):
        async def __call__(self, calls: Sequence[Call]) -> Answers:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            return []

    monkeypatch.setattr(asking, "GRACE_S", 0.1)
    found = await reply(Stubborn(), timeout_s=0.05)
    released.set()
    await asyncio.sleep(0)
    assert found.fault is not None
    assert found.fault.code is ErrorCode.RPC_TIMEOUT
    assert "it goes on" in found.fault.message
