"""The contract of `tidegate.ports.Backend`, and of its optional extensions."""

import asyncio
import unittest
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import ClassVar

from msgspec import Raw

from tidegate.core.payload import compact
from tidegate.errors import ApplicationError, BackendError, Disconnected, InvalidResponse
from tidegate.ports import Ask, Backend, Call, Checked, Knocks, Prepares
from tidegate.testing.contracts.expectations import raises, until

IN_FLIGHT_S = 0.05
"""How long to wait until a call that never ends has certainly started."""


class BackendContract(ABC):
    """Tests for a backend, and a service that answers as the attributes say.

    `answers` maps methods to the exact JSON that answers them. The next three name a method each, if the service has
    one that behaves so; the tests for an attribute that is None are skipped. `error` is answered with an application
    error, `breaks` breaks off the exchange, `hangs` is never answered, `garbles` is answered with what breaks the
    protocol. `batches` says whether the backend accepts several calls in one exchange.
    """

    answers: ClassVar[Mapping[str, bytes]]
    batches: ClassVar[bool] = True
    error: ClassVar[str | None] = None
    breaks: ClassVar[str | None] = None
    hangs: ClassVar[str | None] = None
    garbles: ClassVar[str | None] = None

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Backend]:
        """Make the backend, and the service that it calls. Close both when the context ends."""

    def unreachable(self) -> AbstractAsyncContextManager[Backend] | None:
        """Make the backend without a service: no connection can be made. None, unless overridden, skips its tests."""
        return None

    async def test_an_answer_is_the_json_that_the_service_gave(self) -> None:
        async with self.opened() as backend:
            for method, expected in self.answers.items():
                answers = await backend.call([Call(method)])
                assert [type(answer) for answer in answers] == [Raw]
                assert _json(answers[0]) == expected

    async def test_an_answer_is_compact_if_the_backend_says_so(self) -> None:
        async with self.opened() as backend:
            if not isinstance(backend, Checked) or not backend.answers_are_compact:
                raise unittest.SkipTest("this backend does not declare that its answers are compact")
            for method in self.answers:
                [answer] = await backend.call([Call(method)])
                assert _json(answer) == bytes(compact(Raw(_json(answer))))

    async def test_answers_come_in_the_order_of_the_calls(self) -> None:
        if not self.batches:
            raise unittest.SkipTest("this backend takes one call at a time")
        methods = [*self.answers] * 2
        async with self.opened() as backend:
            answers = await backend.call([Call(method) for method in methods])
        assert list(map(_json, answers)) == [self.answers[method] for method in methods]

    async def test_an_error_stands_in_the_place_of_its_call(self) -> None:
        refused, answered = _named(self.error, "is answered with an error"), next(iter(self.answers))
        if not self.batches:
            raise unittest.SkipTest("this backend takes one call at a time")
        async with self.opened() as backend:
            first, *others, last = await backend.call([Call(each) for each in (answered, answered, refused, answered)])
        assert list(map(_json, [first, others[0], last])) == [self.answers[answered]] * 3
        assert isinstance(others[1], ApplicationError)

    async def test_a_single_call_with_an_error_is_no_failed_exchange(self) -> None:
        refused = _named(self.error, "is answered with an error")
        async with self.opened() as backend:
            [answer] = await backend.call([Call(refused)])
        assert isinstance(answer, ApplicationError)

    async def test_an_exchange_that_fails_as_a_whole_raises_and_the_next_one_is_well(self) -> None:
        breaking, answered = _named(self.breaks, "breaks the exchange off"), next(iter(self.answers))
        async with self.opened() as backend:
            with raises(BackendError):
                await backend.call([Call(breaking)])
            assert list(map(_json, await backend.call([Call(answered)]))) == [self.answers[answered]]

    async def test_an_answer_that_breaks_the_protocol_is_an_invalid_response_and_the_next_one_is_well(self) -> None:
        garbled, answered = _named(self.garbles, "is answered with what breaks the protocol"), next(iter(self.answers))
        async with self.opened() as backend:
            with raises(InvalidResponse):
                for answer in await backend.call([Call(garbled)]):
                    if isinstance(answer, BackendError):
                        raise answer
            assert list(map(_json, await backend.call([Call(answered)]))) == [self.answers[answered]]

    async def test_calls_at_once_are_answered_each_with_its_own(self) -> None:
        methods = [*self.answers] * 3
        async with self.opened() as backend:
            answers = await asyncio.gather(*(backend.call([Call(method)]) for method in methods))
        assert [list(map(_json, each)) for each in answers] == [[self.answers[method]] for method in methods]

    async def test_a_call_that_is_cancelled_at_any_turn_leaves_no_task_behind(self) -> None:
        answered = next(iter(self.answers))
        async with self.opened() as backend:
            await backend.call([Call(answered)])
            before = asyncio.all_tasks()
            for turns in range(5):
                await _cancelled(asyncio.create_task(_ask(backend, answered)), turns=turns)
            await until(lambda: asyncio.all_tasks() <= before)
            assert list(map(_json, await backend.call([Call(answered)]))) == [self.answers[answered]]

    async def test_a_cancelled_call_that_hangs_leaves_no_task_behind(self) -> None:
        hanging, answered = _named(self.hangs, "is never answered"), next(iter(self.answers))
        async with self.opened() as backend:
            await backend.call([Call(answered)])
            before = asyncio.all_tasks()
            with raises(TimeoutError):
                async with asyncio.timeout(IN_FLIGHT_S):
                    await backend.call([Call(hanging)])
            await until(lambda: asyncio.all_tasks() <= before)

    async def test_closing_it_fails_the_calls_in_flight(self) -> None:
        hanging = _named(self.hangs, "is never answered")
        async with self.opened() as backend:
            call = asyncio.create_task(_ask(backend, hanging))
            await asyncio.sleep(IN_FLIGHT_S)
            await backend.aclose()
            await until(call.done)
            with raises(Disconnected):
                await call

    async def test_what_was_prepared_makes_the_exchange(self) -> None:
        answered = next(iter(self.answers))
        async with self.opened() as backend:
            if not isinstance(backend, Prepares):
                raise unittest.SkipTest("this backend has nothing to prepare")
            ask = await backend.prepare()
            assert list(map(_json, await ask([Call(answered)]))) == [self.answers[answered]]

    async def test_what_was_prepared_says_that_its_connection_stood(self) -> None:
        answered = next(iter(self.answers))
        async with self.opened() as backend:
            ask = await _prepared(backend)
            await ask([Call(answered)])
            assert _connected(ask) is True
            if self.hangs is None:
                return
            ask = await _prepared(backend)
            with raises(TimeoutError):
                async with asyncio.timeout(IN_FLIGHT_S):
                    await ask([Call(self.hangs)])
            assert _connected(ask) is True

    async def test_what_was_prepared_says_that_no_connection_stood(self) -> None:
        async with self._unreachable() as backend:
            ask = await _prepared(backend)
            with raises(BackendError):
                await ask([Call(next(iter(self.answers)))])
            assert _connected(ask) is False

    async def test_a_knock_finds_the_service_and_the_next_call_is_answered(self) -> None:
        answered = next(iter(self.answers))
        async with self.opened() as backend:
            for _ in range(3):
                await _knocking(backend).knock()
                await _knocking(backend).knock()
                assert list(map(_json, await backend.call([Call(answered)]))) == [self.answers[answered]]

    async def test_a_knock_where_nothing_can_be_reached_raises(self) -> None:
        async with self._unreachable() as backend:
            with raises(BackendError):
                await _knocking(backend).knock()

    async def test_a_knock_that_is_cancelled_at_any_turn_leaves_no_task_behind(self) -> None:
        answered = next(iter(self.answers))
        async with self.opened() as backend:
            before = asyncio.all_tasks()
            for turns in range(5):
                await _cancelled(asyncio.create_task(_knock(_knocking(backend))), turns=turns)
            await until(lambda: asyncio.all_tasks() <= before)
            assert list(map(_json, await backend.call([Call(answered)]))) == [self.answers[answered]]

    async def test_closing_it_ends_knocking(self) -> None:
        async with self.opened() as backend:
            await _knocking(backend).knock()
            await backend.aclose()
            with raises(Disconnected):
                await _knocking(backend).knock()

    def _unreachable(self) -> AbstractAsyncContextManager[Backend]:
        opened = self.unreachable()
        if opened is None:
            raise unittest.SkipTest("there is no such backend without a service")
        return opened


def _named(method: str | None, what: str) -> str:
    if method is None:
        raise unittest.SkipTest(f"no method of this service {what}")
    return method


def _json(answer: Raw | BackendError) -> bytes:
    assert isinstance(answer, Raw), f"expected an answer, got {answer!r}"
    return bytes(answer)


async def _ask(backend: Backend, method: str) -> Sequence[Raw | BackendError]:
    return await backend.call([Call(method)])


async def _prepared(backend: Backend) -> Ask:
    if not isinstance(backend, Prepares):
        raise unittest.SkipTest("this backend has nothing to prepare")
    ask = await backend.prepare()
    if _connected(ask) is None:
        raise unittest.SkipTest("what this backend prepares does not say whether its connection stood")
    return ask


def _connected(ask: Ask) -> object:
    return getattr(ask, "connected", None)


def _knocking(backend: Backend) -> Knocks:
    if not isinstance(backend, Knocks):
        raise unittest.SkipTest("this backend does not knock")
    return backend


async def _knock(backend: Knocks) -> None:
    await backend.knock()


async def _cancelled(call: asyncio.Task[object], *, turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
