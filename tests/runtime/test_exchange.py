"""Whatever a `Backend` handed in from outside returns or raises: one place checks it, and nobody else is the worse."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from house import INTERVAL_S, TIMEOUT_S, House, LoopClock, source, virtual
from msgspec import Raw
from polling import backend_plan, source_plan
from structlog.testing import capture_logs

from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import Answer, Fault, Outcome
from tidegate.errors import BackendError, Disconnected, HttpStatus, NoCredentials
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.ports import Ask, Backend, Call, Checked, Prepares
from tidegate.runtime import exchange as module
from tidegate.runtime.exchange import Prepared, can_knock, close, prepare, reached

TWICE = BreakerRules(failure_threshold=2, open_s=1000.0, open_max_s=1000.0)


class Foreign:
    """A backend that somebody else wrote; `act` is what it does when it is called."""

    def __init__(self, act: Callable[[Sequence[Call]], Any]) -> None:
        self.act = act
        self.calls = 0

    async def call(self, calls: Sequence[Call]) -> Sequence[Raw | BackendError]:
        self.calls += 1
        found = self.act(calls)
        if isinstance(found, BaseException):
            raise found
        return found  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        return None


class Odd(BaseException):
    """No `Exception`, as `SystemExit` is none."""


class Miscounting(list[Raw]):
    def __len__(self) -> int:
        raise RuntimeError("no length today")


class Ending(list[Raw]):
    def __len__(self) -> int:
        raise SystemExit(3)


class Coded(BackendError):
    code = "MY_OWN_CODE"  # type: ignore[assignment]


async def generated() -> AsyncIterator[Raw]:
    yield Raw(b"1")


RETURNED: dict[str, Any] = {
    "bytes that are no JSON": [Raw(b"not json")],
    "bytes that are not UTF-8": [Raw(b'"\xff"')],
    "nothing": [Raw(b"")],
    "two values": [Raw(b"1 2")],
    "half a value": [Raw(b'{"a":')],
    "NaN": [Raw(b"NaN")],
    "bytes": [b"1"],
    "a dict": [{"a": 1}],
    "None in place of an answer": [None],
    "too few answers": [],
    "too many answers": [Raw(b"1"), Raw(b"2")],
    "None": None,
    "an answer without a list": Raw(b"1"),
    "text": "1",
    "a mapping": {"a.x": Raw(b"1")},
    "a generator": (Raw(b"1") for _ in range(1)),
    "an asynchronous generator": generated(),
    "a list whose length cannot be told": Miscounting([Raw(b"1")]),
    "a list whose length ends the program": Ending([Raw(b"1")]),
    "an exception that is no BackendError": [ValueError("in the list")],
    "a cancellation in the list": [asyncio.CancelledError()],
    "an error with a code of its own": [Coded("odd")],
    "a class": [BackendError],
}
RAISED: dict[str, BaseException] = {
    "ValueError": ValueError("boom"),
    "an error that cannot be told": type("Mute", (Exception,), {"__str__": lambda self: 1 / 0, "__repr__": None})(),
    "an ExceptionGroup": ExceptionGroup("several", [Disconnected("a"), ValueError("b")]),
    "a BaseExceptionGroup": BaseExceptionGroup("several", [Odd()]),
    "SystemExit": SystemExit(3),
    "GeneratorExit": GeneratorExit(),
    "a BaseException": Odd("from afar"),
    "a cancellation that nobody asked for": asyncio.CancelledError(),
    "StopAsyncIteration": StopAsyncIteration(),
    "half a surrogate pair": Disconnected("\ud83d"),
    "an error with a code of its own": Coded("odd"),
    "a wish that is no number": HttpStatus(503, "", retry_after_s="soon"),  # type: ignore[arg-type]
    "a status that is no number": HttpStatus(None, ""),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", [*RETURNED, *RAISED])
def test_what_a_foreign_backend_does_wrong_is_a_failure_that_is_told_and_counted(what: str) -> None:
    """Issue 11, entry 18: `Raw(b"not json")` went out as fresh data; too few answers killed the poller's task."""
    wrong = RETURNED[what] if what in RETURNED else RAISED[what]
    foreign = Foreign(lambda calls: wrong)

    @virtual
    async def run() -> None:
        house = House(source("a.x"), backend=foreign, breaker=TWICE)
        with capture_logs() as lines:
            async with house.supervisor.running():
                await asyncio.sleep(INTERVAL_S + 2.0)
                foreign.act = lambda calls: [Raw(b"1")]
                assert house.states() == ["closed", "open"], "two calls, two failures"
                await house.supervisor.command("engine", "reset", by="ops")
                await asyncio.sleep(INTERVAL_S + 2.0)
        assert not [line for line in lines if line["event"] == "a part failed and is started again"]
        errors = [msgspec.json.decode(draft.data) for draft in house.of("rpc_error")]
        assert [(error["error_code"], error["consecutive_failures"]) for error in errors] in (
            [("RPC_INVALID_RESPONSE", 1)],
            [("RPC_DISCONNECT", 1)],
        )
        assert errors[0]["message"]
        assert (house.of("a.x")[0].data, house.of("a.x")[0].stale) == (Raw(b"1"), False)

    run()


@pytest.mark.parametrize("what", ["too few answers", "None", "an answer without a list"])
def test_a_batch_that_comes_back_wrong_fails_each_of_its_sources_and_counts_once(what: str) -> None:
    foreign = Foreign(lambda calls: RETURNED[what])

    @virtual
    async def run() -> None:
        house = House(source("a.x"), source("b.x"), backend=foreign, batch=True, breaker=TWICE)
        async with house.supervisor.running():
            await asyncio.sleep(2.0)
            assert house.supervisor.breakers()[0].failure_count == 1
        assert {draft.about for draft in house.of("rpc_error")} == {frozenset({"a.x"}), frozenset({"b.x"})}

    run()


def test_one_answer_of_a_batch_that_is_none_is_the_fault_of_its_source_alone() -> None:
    foreign = Foreign(lambda calls: [Raw(b"[1 2]"), Raw(b"2")])

    @virtual
    async def run() -> None:
        house = House(source("a.x"), source("b.x"), backend=foreign, batch=True, breaker=TWICE)
        async with house.supervisor.running():
            await asyncio.sleep(3 * INTERVAL_S)
        assert house.states() == ["closed"]
        assert {draft.about for draft in house.of("rpc_error")} == {frozenset({"a.x"})}
        assert not any(draft.stale for draft in house.of("b.x"))

    run()


def test_an_answer_with_white_space_is_published_compact() -> None:
    @virtual
    async def run() -> None:
        house = House(source("a.x"), backend=Foreign(lambda calls: (Raw(b' {"n" :\n 1.10} '),)))
        async with house.supervisor.running():
            await asyncio.sleep(2.0)
        assert house.of("a.x")[0].data == Raw(b'{"n":1.10}')

    run()


class Stubborn(Foreign):
    """Keeps the cancellation of its deadline to itself, and answers after all, or fails in its own way."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(lambda calls: act())

    async def call(self, calls: Sequence[Call]) -> Sequence[Raw | BackendError]:
        try:
            await asyncio.sleep(3600.0)
        except asyncio.CancelledError:
            return await super().call(calls)
        raise AssertionError("expected to be cancelled")


@pytest.mark.parametrize("after_all", [[Raw(b"1")], Disconnected("cut off"), KeyError("lost")])
def test_what_comes_of_a_call_after_its_deadline_is_a_timeout(after_all: Any) -> None:
    @virtual
    async def run() -> None:
        house = House(source("a.x"), backend=Stubborn(lambda: after_all), breaker=TWICE)
        async with house.supervisor.running():
            await asyncio.sleep(TIMEOUT_S + 1.5)
        (error,) = house.of("rpc_error")
        assert msgspec.json.decode(error.data)["error_code"] == "RPC_TIMEOUT"
        assert not house.of("a.x")

    run()


@pytest.mark.parametrize("after_all", [[Raw(b"1")], Disconnected("cut off"), KeyError("lost"), Odd()])
def test_a_shutdown_ends_whatever_a_backend_makes_of_its_cancellation(after_all: Any) -> None:
    @virtual
    async def run() -> None:
        house = House(source("a.x"), backend=Stubborn(lambda: after_all))
        async with asyncio.timeout(60.0), house.supervisor.running():
            await asyncio.sleep(1.2)
        assert not house.of("rpc_error")
        assert house.supervisor.breakers()[0].failure_count == 0, "a cancelled call says nothing of the backend"

    run()


class Preparing(Foreign):
    def __init__(self, prepare: Callable[[], Any]) -> None:
        super().__init__(lambda calls: [Raw(b"1")])
        self._prepare = prepare

    async def prepare(self) -> Ask:
        found = self._prepare()
        if isinstance(found, BaseException):
            raise found
        if found == "hang":
            await asyncio.sleep(3600.0)
        return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (NoCredentials("no such file"), "no such file"),
        (ValueError("odd"), "could not get ready for a call: ValueError('odd')"),
        (Odd(), "could not get ready for a call: Odd()"),
        (asyncio.CancelledError(), "could not get ready for a call: CancelledError()"),
        (None, "expected something to call from prepare(), got NoneType"),
        ("hang", "expected to be ready for a call within 2 s"),
    ],
)
def test_a_backend_that_cannot_get_ready_is_not_called_and_its_breaker_sees_nothing(
    prepared: Any, message: str
) -> None:
    backend = Preparing(lambda: prepared)

    @virtual
    async def run() -> None:
        house = House(source("a.x", interval_s=1.0), backend=backend, breaker=TWICE)
        async with house.supervisor.running():
            await asyncio.sleep(60.0)
        assert house.states() == ["closed"]
        errors = [msgspec.json.decode(draft.data) for draft in house.of("rpc_error")]
        assert {(error["error_code"], error["message"]) for error in errors} == {("RPC_AUTH", message)}

    run()
    assert backend.calls == 0


async def test_a_backend_that_cannot_be_closed_is_logged_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.01)

    class Sticky(Foreign):
        async def aclose(self) -> None:
            found = self.act(())
            if found is None:
                await asyncio.sleep(3600.0)
            raise found

    for error in (RuntimeError("stuck"), Odd(), SystemExit(1), asyncio.CancelledError(), None):
        with capture_logs() as lines:
            await close(Sticky(lambda calls, error=error: error), "engine")  # type: ignore[misc]
        assert [(line["event"], line["backend"]) for line in lines] == [("a backend could not be closed", "engine")]


async def test_closing_gives_way_to_a_cancellation_of_ours() -> None:
    class Slow(Foreign):
        async def aclose(self) -> None:
            await asyncio.sleep(3600.0)

    closing = asyncio.create_task(close(Slow(lambda calls: None), "engine"))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing


def test_our_own_backends_are_ready_before_their_permit_and_are_not_checked_twice() -> None:
    for backend in (HttpJsonBackend(HttpOptions("http://h/")), JsonRpcBackend(HttpOptions("http://h/"))):
        assert isinstance(backend, Prepares)
        assert isinstance(backend, Checked)
        assert backend.answers_are_compact


@pytest.mark.parametrize("declares", [True, False])
def test_an_answer_that_is_declared_to_be_compact_is_believed(declares: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Raw] = []

    def compact(raw: Raw) -> Raw:
        checked.append(raw)
        return raw

    monkeypatch.setattr(module, "compact", compact)

    class Declaring(Foreign):
        answers_are_compact = declares

    @virtual
    async def run() -> None:
        backend: Backend = Declaring(lambda calls: [Raw(b"1")])
        house = House(source("a.x"), backend=backend)
        async with house.supervisor.running():
            await asyncio.sleep(2.0)
        assert house.of("a.x")[0].data == Raw(b"1")

    run()
    assert len(checked) == (0 if declares else 1)


class Saying:
    """What `prepare` may return: a call that says whether its connection stood, and what secret it sends."""

    def __init__(self, act: Callable[[], Any], *, connected: Any = True, secret: Any = None) -> None:
        self._act = act
        self._connected = connected
        self.secret = secret
        self.connected: Any = True

    async def __call__(self, calls: Sequence[Call]) -> Sequence[Raw | BackendError]:
        self.connected = self._connected
        found = self._act()
        if isinstance(found, BaseException):
            raise found
        if found == "hang":
            await asyncio.sleep(3600.0)
        return found  # type: ignore[no-any-return]


class Unspeakable:
    @property
    def connected(self) -> bool:
        raise SystemExit(3)

    secret = connected

    async def __call__(self, calls: Sequence[Call]) -> Sequence[Raw | BackendError]:
        raise Disconnected("gone")


def plan_of(*, timeout_s: float) -> BackendPlan:
    return msgspec.structs.replace(backend_plan(source_plan("a.x", 1.0), rules=BreakerRules()), timeout_s=timeout_s)


async def outcome_of(ask: Any) -> Outcome:
    plan = plan_of(timeout_s=2.0)
    prepared = await prepare(Preparing(lambda: ask), plan, LoopClock())
    assert isinstance(prepared, Prepared)
    [(outcome, _)] = await module.exchange(prepared, plan, plan.sources, LoopClock())
    return outcome


@pytest.mark.parametrize("act", [Disconnected("refused"), "hang"])
@pytest.mark.parametrize(("connected", "unreachable"), [(False, True), (True, False), (None, False), (0, False)])
def test_a_call_that_says_that_it_had_no_connection_is_unreachable(act: Any, connected: Any, unreachable: bool) -> None:
    @virtual
    async def run() -> None:
        outcome = await outcome_of(Saying(lambda: act, connected=connected))
        assert isinstance(outcome, Fault)
        assert outcome.unreachable is unreachable

    run()


@pytest.mark.parametrize("ask", [Foreign(lambda calls: Disconnected("gone")).call, Unspeakable()])
async def test_a_call_that_does_not_say_whether_it_had_a_connection_is_not_unreachable(ask: Any) -> None:
    outcome = await outcome_of(ask)
    assert isinstance(outcome, Fault)
    assert not outcome.unreachable


async def test_an_answer_is_an_answer_whatever_is_said_of_its_connection() -> None:
    assert isinstance(await outcome_of(Saying(lambda: [Raw(b"1")], connected=False)), Answer)


@pytest.mark.parametrize(
    ("ask", "secret"),
    [
        (Saying(list, secret=b"s3cr3t"), b"s3cr3t"),
        (Saying(list), None),
        (Saying(list, secret="text"), None),
        (Foreign(list).call, None),
        (Unspeakable(), None),
    ],
)
async def test_the_secret_of_a_call_is_passed_on(ask: Any, secret: bytes | None) -> None:
    prepared = await prepare(Preparing(lambda: ask), plan_of(timeout_s=2.0), LoopClock())
    assert isinstance(prepared, Prepared)
    assert prepared.secret == secret


@pytest.mark.parametrize("answer", [[Raw(b"not json")], [], None, [b"1"], Odd("far")])
@pytest.mark.parametrize(
    ("made_by", "begins"), [("nut 1.0", "nut 1.0: expected "), (None, "expected "), (7, "expected ")]
)
async def test_an_answer_that_no_backend_may_give_is_told_with_the_name_of_its_author(
    answer: Any, made_by: Any, begins: str
) -> None:
    ask: Any = Saying(lambda: answer)
    ask.made_by = made_by
    outcome = await outcome_of(ask)
    assert isinstance(outcome, Fault)
    assert outcome.code == "RPC_INVALID_RESPONSE"
    assert outcome.message.startswith(begins)


async def test_an_error_that_a_backend_may_raise_is_told_as_it_is() -> None:
    ask: Any = Saying(lambda: Disconnected("gone"))
    ask.made_by = "nut 1.0"
    outcome = await outcome_of(ask)
    assert isinstance(outcome, Fault)
    assert outcome.message == "gone"


class Knocking(Foreign):
    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(list)
        self._knock = act
        self.ended = 0

    async def knock(self) -> None:
        found = self._knock()
        try:
            if found == "hang":
                await asyncio.sleep(3600.0)
            if found == "hang on":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600.0)
        finally:
            self.ended += 1
        if isinstance(found, BaseException):
            raise found


@pytest.mark.parametrize(
    ("found", "is_reached", "after_s"),
    [
        (None, True, 0.0),
        (Disconnected("refused"), False, 0.0),
        (ValueError("odd"), False, 0.0),
        (Odd(), False, 0.0),
        (SystemExit(3), False, 0.0),
        (asyncio.CancelledError(), False, 0.0),
        ("hang", False, 3.0),
        ("hang on", False, 3.0),
    ],
)
@pytest.mark.parametrize("timeout_s", [1.5, 30.0])
def test_a_knock_says_whether_the_backend_was_reached_in_time(
    found: Any, is_reached: bool, after_s: float, timeout_s: float
) -> None:
    @virtual
    async def run() -> None:
        loop = asyncio.get_running_loop()
        backend, plan = Knocking(lambda: found), plan_of(timeout_s=timeout_s)
        assert can_knock(backend)
        began = loop.time()
        assert await reached(backend, plan, LoopClock()) is is_reached
        assert loop.time() - began == pytest.approx(min(after_s, timeout_s))
        assert backend.ended == 1

    run()


async def test_a_knock_that_is_cancelled_by_us_ends_with_that() -> None:
    for found in ("hang", "hang on"):
        backend = Knocking(lambda found=found: found)  # type: ignore[misc]
        knock = asyncio.create_task(reached(backend, plan_of(timeout_s=2.0), LoopClock()))
        await asyncio.sleep(0)
        knock.cancel()
        await asyncio.wait([knock])
        assert knock.cancelled()
        assert backend.ended == 1


async def test_a_backend_that_cannot_knock_is_never_reached() -> None:
    foreign = Foreign(list)
    assert not can_knock(foreign)
    assert not await reached(foreign, plan_of(timeout_s=2.0), LoopClock())
