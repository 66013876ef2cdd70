"""Each promise of a contract can be broken, and is then found: by these tests of it, and by no others."""

import asyncio
import inspect
import unittest
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Raw

from tidegate.core.access.grant import EVERYTHING, UNRESTRICTED, Coverage, Grant
from tidegate.core.instant import Instant
from tidegate.core.measurements import KnockEnded, Measurement, TicksMissed
from tidegate.errors import (
    ApplicationError,
    BackendError,
    Disconnected,
    InvalidResponse,
    MessageError,
    MessageErrorCode,
)
from tidegate.ports import Ask, Authenticator, Backend, Call, Clock, Metrics, PublishedValue, SavedValue, Store
from tidegate.testing import ManualClock, MemoryStore, RecordingMetrics, ScriptedBackend
from tidegate.testing.clock import ManualTimer
from tidegate.testing.contracts import (
    AuthenticatorContract,
    BackendContract,
    ClockContract,
    MetricsContract,
    StoreContract,
    expectations,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectations, "PATIENCE_S", 0.2)


async def broken(contract: type[Any]) -> set[str]:
    """The names of the contract's tests that fail."""
    found = set()
    for name, _ in inspect.getmembers(contract, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            try:
                await getattr(contract(), name)()
            except unittest.SkipTest:
                pass
            except Exception:  # noqa: BLE001 - as for pytest
                found.add(name.removeprefix("test_"))
    return found


class Forgetful(MemoryStore):
    async def aclose(self) -> None:
        self.values.clear()


class Immortal(MemoryStore):
    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        super().save(values)


class FirstCounts(MemoryStore):
    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        super().save([value for value in values if (value.type, value.key) not in self.values], gone=gone)


class WithoutKeys(MemoryStore):
    async def load(self) -> Sequence[SavedValue]:
        return list({value.type: value for value in await super().load()}.values())

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        types = {event_type for event_type, _ in gone}
        super().save(values, gone=[name for name in self.values if name[0] in types])


class Buried(MemoryStore):
    """What was gone once does not come back."""

    def __init__(self) -> None:
        super().__init__()
        self.graves: set[tuple[str, str]] = set()

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        self.graves |= set(gone)
        super().save(values, gone=self.graves)


class Wiping(MemoryStore):
    """Keeps what its last `save` was given, and no more."""

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        self.values.clear()
        super().save(values, gone=gone)


class Haunted(MemoryStore):
    def __init__(self) -> None:
        super().__init__([SavedValue("a.ghost", "", b"1", 0.0)])


class OldPort:
    """A store that was written when only last good values were kept."""

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.load, self.save, self.aclose = self._inner.load, self._inner.save, self._inner.aclose


class ForgetfulOfPublished(MemoryStore):
    async def aclose(self) -> None:
        self.published.clear()


class ImmortalPublished(MemoryStore):
    def save_published(self, values: Iterable[PublishedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        super().save_published(values)


class OldestPublished(MemoryStore):
    def save_published(self, values: Iterable[PublishedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        new = [value for value in values if (value.type, value.key) not in self.published]
        super().save_published(new, gone=gone)


class WithoutEnds(MemoryStore):
    async def load_published(self) -> Sequence[PublishedValue]:
        return [msgspec.structs.replace(each, ends_at=None) for each in await super().load_published()]


class OneForBoth(MemoryStore):
    """What is gone of one kind is gone of the other."""

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        names = list(gone)
        super().save(values, gone=names)
        super().save_published([], gone=names)


PUBLISHED = "what_was_published_is_there_after_a_restart_and_a_run_that_saves_nothing"
NEWEST_PUBLISHED = "the_newest_published_value_counts_and_what_is_gone_is_forgotten"
APART = "published_and_last_good_values_of_one_name_are_apart"
NEWEST = "the_newest_value_of_a_key_counts_and_what_is_gone_is_forgotten"
RESTART = "what_was_saved_is_there_after_a_restart"
RETURN = "a_value_that_comes_back_after_it_was_gone_is_there"
QUIET = "what_was_saved_stays_through_a_run_that_saves_nothing"
KEYS = "a_key_is_not_its_type_alone"
EMPTY = "a_new_store_is_empty"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (MemoryStore, set()),
        (Forgetful, {RESTART, NEWEST, RETURN, QUIET, KEYS, APART}),
        (Immortal, {NEWEST, KEYS, APART}),
        (FirstCounts, {NEWEST}),
        (WithoutKeys, {KEYS}),
        (Buried, {RETURN}),
        (Wiping, {QUIET, KEYS, APART}),
        (Haunted, {RESTART, NEWEST, RETURN, QUIET, KEYS, EMPTY, APART}),
        (OldPort, set()),
        (ForgetfulOfPublished, {PUBLISHED, NEWEST_PUBLISHED, APART}),
        (ImmortalPublished, {NEWEST_PUBLISHED, APART}),
        (OldestPublished, {NEWEST_PUBLISHED}),
        (WithoutEnds, {PUBLISHED}),
        (OneForBoth, {APART}),
    ],
)
async def test_stores(make: Callable[[], Store], found: set[str]) -> None:
    class Contract(StoreContract):
        def __init__(self) -> None:
            self.store = make()

        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Store]:
            yield self.store
            await self.store.aclose()

    assert await broken(Contract) == found


class Told(ScriptedBackend):
    """A backend that keeps its promises; each of those below breaks one. If `gone`, it has no service."""

    gone = False

    def __init__(self) -> None:
        super().__init__({"a": Raw(b"1.10"), "b": {"x": [1, 2]}, "refused": ApplicationError(-32000, "no disk")})

    def without_service(self) -> None:
        self.gone = True
        self.fail(Disconnected("refused"), unreachable=True)

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        self.recover()
        if self.gone:
            self.without_service()
        if calls[0].method == "breaks":
            self.fail(Disconnected("gone"))
        if calls[0].method == "hangs":
            self.hang()
        if calls[0].method == "garbles":
            self.fail(InvalidResponse("expected JSON"))
        return await super().call(calls)


class TakesAnything(Told):
    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        return [Raw(b"null")] if calls[0].method == "garbles" else await super().call(calls)


class Rounding(Told):
    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        answers = await super().call(calls)
        return [Raw(bytes(each).replace(b"1.10", b"1.1")) if isinstance(each, Raw) else each for each in answers]


class Disordered(Told):
    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        return [*reversed(await super().call(calls))]


class AllOrNothing(Told):
    """An error of one call fails them all."""

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        answers = await super().call(calls)
        for answer in answers:
            if isinstance(answer, BackendError):
                raise answer
        return answers


class Untyped(Told):
    """Raises what its library raises."""

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        try:
            return await super().call(calls)
        except Disconnected as error:
            raise OSError("the connection was reset") from error


class NeverAgain(Told):
    """Does not connect again."""

    lost = False

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        if self.lost:
            raise Disconnected("lost before")
        try:
            return await super().call(calls)
        except Disconnected:
            self.lost = True
            raise


class Littering(Told):
    """Leaves the request running when its caller has been cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: set[asyncio.Task[object]] = set()

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        request = asyncio.ensure_future(self._request(calls))
        self.requests.add(request)
        return await asyncio.shield(request)

    async def _request(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        await asyncio.sleep(0.001)
        return await super().call(calls)

    async def end(self) -> None:
        for request in self.requests:
            request.cancel()
        await asyncio.gather(*self.requests, return_exceptions=True)


class LeavesHanging(Told):
    """Its `aclose` forgets those who wait."""

    async def aclose(self) -> None:
        pass


class Boasting(Told):
    """Says that its answers are compact."""

    answers_are_compact = True

    def __init__(self) -> None:
        super().__init__()
        self.script = {"a": Raw(b"1.10"), "b": Raw(b'{"x": [1, 2]}')}


class Mixed(Told):
    """Gives one caller what another has asked for."""

    newest: Sequence[Call] = ()

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        self.newest = calls
        await asyncio.sleep(0)
        return await super().call(self.newest)


class Unprepared(Told):
    async def prepare(self) -> Ask:
        return Rounding().call


class Silent(Told):
    """Does not say whether its connection stood, and does not knock: both are optional."""

    knock = None  # type: ignore[assignment]

    async def prepare(self) -> Ask:
        return self.call


class AlwaysConnected(Told):
    def is_connected(self) -> bool:
        return True


class ConnectedByAnswer(Told):
    """Takes a call without an answer for one without a connection."""

    async def prepare(self) -> Ask:
        ask = await super().prepare()

        async def answered(calls: Sequence[Call]) -> Sequence[Raw | BackendError]:
            answered.connected = False  # type: ignore[attr-defined]
            found = await ask(calls)
            answered.connected = True  # type: ignore[attr-defined]
            return found

        answered.connected = True  # type: ignore[attr-defined]
        return answered


class KnocksAnywhere(Told):
    async def knock(self) -> None:
        pass


class KnocksAndHolds(Told):
    """Keeps the only connection that it has, so that a call finds none."""

    knocked = False

    async def knock(self) -> None:
        await super().knock()
        self.knocked = True

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        if self.knocked:
            raise Disconnected("no connection is free")
        return await super().call(calls)


class KnocksOn(Told):
    """Goes on knocking when its caller has been cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: set[asyncio.Task[object]] = set()

    async def knock(self) -> None:
        knock = asyncio.ensure_future(asyncio.sleep(0.5))
        self.requests.add(knock)
        await super().knock()
        await asyncio.shield(knock)
        await asyncio.sleep(0)

    async def end(self) -> None:
        for request in self.requests:
            request.cancel()
        await asyncio.gather(*self.requests, return_exceptions=True)


AN_ANSWER = "an_answer_is_the_json_that_the_service_gave"
ORDER = "answers_come_in_the_order_of_the_calls"
IN_PLACE = "an_error_stands_in_the_place_of_its_call"
SINGLE_ERROR = "a_single_call_with_an_error_is_no_failed_exchange"
GARBLED = "an_answer_that_breaks_the_protocol_is_an_invalid_response_and_the_next_one_is_well"
WHOLE = "an_exchange_that_fails_as_a_whole_raises_and_the_next_one_is_well"
AT_ONCE = "calls_at_once_are_answered_each_with_its_own"
ANY_TURN = "a_call_that_is_cancelled_at_any_turn_leaves_no_task_behind"
HANGS = "a_cancelled_call_that_hangs_leaves_no_task_behind"
CLOSING = "closing_it_fails_the_calls_in_flight"
COMPACT = "an_answer_is_compact_if_the_backend_says_so"
PREPARED = "what_was_prepared_makes_the_exchange"
STOOD = "what_was_prepared_says_that_its_connection_stood"
NONE_STOOD = "what_was_prepared_says_that_no_connection_stood"
KNOCK = "a_knock_finds_the_service_and_the_next_call_is_answered"
KNOCK_FAILS = "a_knock_where_nothing_can_be_reached_raises"
KNOCK_ANY_TURN = "a_knock_that_is_cancelled_at_any_turn_leaves_no_task_behind"
KNOCK_CLOSED = "closing_it_ends_knocking"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Told, set()),
        (Rounding, {AN_ANSWER, ORDER, IN_PLACE, WHOLE, GARBLED, AT_ONCE, ANY_TURN, PREPARED, KNOCK, KNOCK_ANY_TURN}),
        (Disordered, {IN_PLACE, ORDER}),
        (AllOrNothing, {IN_PLACE, SINGLE_ERROR}),
        (Untyped, {WHOLE, CLOSING, NONE_STOOD}),
        (NeverAgain, {WHOLE}),
        (TakesAnything, {GARBLED}),
        (Littering, {HANGS}),
        (LeavesHanging, {CLOSING, KNOCK_CLOSED}),
        (Boasting, {AN_ANSWER, ORDER, AT_ONCE, COMPACT}),
        (Mixed, {AT_ONCE}),
        (Unprepared, {PREPARED}),
        (Silent, set()),
        (AlwaysConnected, {NONE_STOOD}),
        (ConnectedByAnswer, {STOOD}),
        (KnocksAnywhere, {KNOCK_FAILS, KNOCK_CLOSED}),
        (KnocksAndHolds, {KNOCK, KNOCK_ANY_TURN}),
        (KnocksOn, {KNOCK_ANY_TURN}),
    ],
)
async def test_backends(make: type[Told], found: set[str]) -> None:
    class Contract(BackendContract):
        answers: ClassVar = {"a": b"1.10", "b": b'{"x":[1,2]}'}
        error = "refused"
        breaks = "breaks"
        hangs = "hangs"
        garbles = "garbles"

        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Backend]:
            backend = make()
            yield backend
            await backend.aclose()
            if isinstance(backend, Littering | KnocksOn):
                await backend.end()

        @asynccontextmanager
        async def unreachable(self) -> AsyncIterator[Backend]:
            backend = make()
            backend.without_service()
            yield backend

    assert await broken(Contract) == found


class Early(ManualClock):
    """Wakes sleepers a little before their time."""

    async def sleep_until(self, mono: float) -> None:
        await super().sleep_until(mono - 0.04)


class Blocking(ManualClock):
    async def sleep_until(self, mono: float) -> None:
        if mono > self.now().mono:
            await super().sleep_until(mono)


class Backwards(ManualClock):
    def now(self) -> Instant:
        now = super().now()
        return Instant(-now.mono, now.wall)


class WallStands(ManualClock):
    def now(self) -> Instant:
        return Instant(super().now().mono, 0.0)

    def advance(self, seconds: float) -> None:
        super().advance(seconds * 100)


class OneByOne(ManualClock):
    """Whoever sleeps waits for the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    async def sleep_until(self, mono: float) -> None:
        async with self.lock:
            await super().sleep_until(mono)


class EarlyCalls(ManualClock):
    def call_at(self, mono: float, callback: Callable[[], None]) -> ManualTimer:
        return super().call_at(mono - 0.04, callback)


class CallsAtOnce(ManualClock):
    """Does not leave the call of what is due to the event loop."""

    def call_at(self, mono: float, callback: Callable[[], None]) -> ManualTimer:
        timer = super().call_at(mono, callback)
        if mono <= self.now().mono:
            timer.call()
        return timer


class NeverCancels(ManualClock):
    def call_at(self, mono: float, callback: Callable[[], None]) -> ManualTimer:
        super().call_at(mono, callback)
        return ManualTimer(callback)


class AllCancelled(ManualClock):
    """Sleepers of one time share a future, so that one who is cancelled takes the others along."""

    def __init__(self) -> None:
        super().__init__()
        self.shared: dict[float, asyncio.Task[None]] = {}

    async def sleep_until(self, mono: float) -> None:
        if mono not in self.shared:
            self.shared[mono] = asyncio.ensure_future(super().sleep_until(mono))
        await self.shared[mono]


class OnALaptop(ManualClock):
    """Its machine can be put to sleep, and makes up for it when it wakes."""

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class StandsStill(OnALaptop):
    """The time asleep does not count."""

    def sleep(self, seconds: float) -> None:
        pass


class WakesLate(OnALaptop):
    """Its timers go by a clock that stood still meanwhile."""

    def sleep(self, seconds: float) -> None:
        self.elapsed += seconds
        self._timers = [(mono + seconds, *others) for mono, *others in self._timers]  # type: ignore[misc]


TOGETHER = "both_clocks_go_together_and_never_back"
PAST = "a_time_that_is_past_is_not_waited_for_but_others_have_their_turn"
BEFORE = "nobody_is_woken_before_the_time"
IN_ORDER = "sleepers_are_woken_in_the_order_of_their_times"
CANCELLED = "one_that_is_cancelled_does_not_keep_others_asleep"
CALLED_ONCE = "a_call_is_made_once_and_not_before_the_time"
CALLED_LATER = "a_call_that_is_due_already_is_made_in_another_turn"
NOT_CALLED = "a_cancelled_call_is_not_made"
LONG = "a_long_wait_ends_at_its_time_too"
ASLEEP = "the_time_asleep_counts"
WOKEN = "what_became_due_while_the_machine_slept_is_made_up_for_when_it_wakes"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (ManualClock, set()),
        (Early, {BEFORE}),
        (Blocking, {PAST}),
        (WallStands, {TOGETHER, LONG}),
        (OneByOne, {IN_ORDER}),
        (AllCancelled, {CANCELLED, LONG}),
        (EarlyCalls, {CALLED_ONCE}),
        (CallsAtOnce, {CALLED_LATER}),
        (NeverCancels, {NOT_CALLED, LONG}),
        (Backwards, {TOGETHER, BEFORE, IN_ORDER, CANCELLED, CALLED_ONCE, NOT_CALLED, LONG}),
        (OnALaptop, set()),
        (StandsStill, {ASLEEP, WOKEN}),
        (WakesLate, {WOKEN}),
    ],
)
async def test_clocks(make: type[ManualClock], found: set[str]) -> None:
    class Contract(ClockContract):
        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Clock]:
            yield make()

        async def passes(self, clock: Clock, seconds: float) -> None:
            assert isinstance(clock, ManualClock)
            clock.advance(seconds)
            await asyncio.sleep(0)

        async def sleeps(self, clock: Clock, seconds: float) -> None:
            if isinstance(clock, OnALaptop):
                clock.sleep(seconds)
            else:
                await super().sleeps(clock, seconds)

    assert await broken(Contract) == found


class Counting(RecordingMetrics):
    """Shows how many ticks of each type were missed."""

    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        for each in list(self.observed):
            if isinstance(each, TicksMissed) and coverage.types.matches(each.type):
                yield _sample(each)
        yield b"# EOF\n" if openmetrics else b""


def _sample(measured: TicksMissed) -> bytes:
    text = measured.type.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'ticks_total{{type="{text}"}} {measured.count}\n'.encode()


class Choosy(Counting):
    def observe(self, measured: Measurement) -> None:
        if isinstance(measured, TicksMissed) and not measured.type:
            raise ValueError("no label may be empty")
        super().observe(measured)


class Strict(Counting):
    def observe(self, measured: Measurement) -> None:
        if type(measured).__module__ != TicksMissed.__module__:
            raise TypeError(f"what is {measured}?")
        super().observe(measured)


class Unescaped(Counting):
    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        for piece in super().render(coverage, openmetrics=openmetrics):
            yield piece.replace(b"\\", b"")


class Endless(Counting):
    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        del openmetrics
        return super().render(coverage)


class Telltale(Counting):
    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        everything = Coverage(types=EVERYTHING, breakers=coverage.breakers, backends=coverage.backends)
        return super().render(everything, openmetrics=openmetrics)


class TellsBackends(Counting):
    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        for each in list(self.observed):
            if isinstance(each, KnockEnded):
                yield _sample(TicksMissed(each.backend, 1))
        yield from super().render(coverage, openmetrics=openmetrics)


class Frozen(Counting):
    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        before = len(self.observed)
        yield from super().render(coverage, openmetrics=openmetrics)
        assert len(self.observed) == before, "nothing may happen meanwhile"


class Gullible(Counting):
    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        for reading in self.readings("not_declared_anywhere"):
            yield f"{reading.name} 1\n".encode()
        yield from super().render(coverage, openmetrics=openmetrics)


EVERY = "it_takes_every_measurement_whatever_its_labels"
UNKNOWN = "it_ignores_a_measurement_that_it_does_not_know"
FORMAT = "it_is_shown_in_the_text_format_of_prometheus"
END = "openmetrics_ends_with_its_last_line"
PIECES = "more_is_measured_between_two_pieces"
NAMES = "what_is_read_of_unknown_names_is_ignored"
COVERED = "an_event_type_that_is_not_covered_is_not_shown"
BACKEND = "a_backend_that_is_not_covered_is_not_shown"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Counting, set()),
        (Choosy, {EVERY, FORMAT, PIECES}),
        (Strict, {UNKNOWN}),
        (Unescaped, {FORMAT}),
        (Endless, {END}),
        (Telltale, {COVERED}),
        (TellsBackends, {BACKEND}),
        (Frozen, {PIECES}),
        (Gullible, {NAMES}),
    ],
)
async def test_metrics(make: type[Counting], found: set[str]) -> None:
    class Contract(MetricsContract):
        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Metrics]:
            yield make()

    assert await broken(Contract) == found


def strictly(token: str) -> Grant:
    if token == "good":
        return UNRESTRICTED
    raise MessageError(MessageErrorCode.UNAUTHENTICATED, "expected a token that is known")


def lets_everybody_in(token: str) -> Grant:
    del token
    return UNRESTRICTED


def takes_none_for_good(token: str) -> Grant:
    return strictly(token or "good")


def strips(token: str) -> Grant:
    return strictly(token.strip())


def repeats(token: str) -> Grant:
    if token == "good":
        return UNRESTRICTED
    raise MessageError(MessageErrorCode.UNAUTHENTICATED, f"expected a token that is known, got {token}"[:100])


def expects_ascii(token: str) -> Grant:
    return strictly(token.encode("ascii").decode())


def confuses(token: str) -> Grant:
    return Grant(roles=frozenset()) if token == "good" else strictly(token)


def says_another_code(token: str) -> Grant:
    if token == "good":
        return UNRESTRICTED
    raise MessageError(MessageErrorCode.FORBIDDEN, "no")


BEARER = "a_token_is_its_bearers_each_time"
NONE = "no_token_is_no_token"
OTHER = "any_other_token_is_refused"
REPEATED = "a_refusal_does_not_repeat_the_token"


@pytest.mark.parametrize(
    ("verify", "found"),
    [
        (strictly, set()),
        (lets_everybody_in, {NONE, OTHER, REPEATED}),
        (takes_none_for_good, {NONE}),
        (strips, {OTHER, REPEATED}),
        (repeats, {REPEATED}),
        (expects_ascii, {OTHER, REPEATED}),
        (confuses, {BEARER}),
        (says_another_code, {NONE, OTHER}),
    ],
)
async def test_authenticators(verify: Callable[[str], Grant], found: set[str]) -> None:
    class Verifying:
        def verify(self, token: str) -> Grant:
            return verify(token)

    class Contract(AuthenticatorContract):
        def tokens(self) -> Mapping[str, Grant]:
            return {"good": UNRESTRICTED}

        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Authenticator]:
            yield Verifying()

    assert await broken(Contract) == found
