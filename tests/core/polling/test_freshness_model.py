"""Freshness against a model, and against a client that believes what is published.

The model keeps the whole past (which requests ended how, when the breaker was what) and works the truth out of it
anew after each step. The client keeps the newest event per key and nothing else. Whatever happens, in whatever order,
what the client believes must be the truth, and it must have been told each change exactly once. Somebody sets the wall
clock meanwhile: nothing may depend on that but the times that are shown.
"""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule
from polling import breaker_view

from tidegate.core.events import Draft
from tidegate.core.instant import Instant, from_rfc3339
from tidegate.core.polling.breaker_values import BreakerView, State
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.source_values import SourceSpec, Update, Value
from tidegate.errors import ErrorCode

INTERVAL_S = 5.0
TIMEOUT_S = 2.0
LIMIT_S = 10.0
START = 1_700_000_000.0

CODES = st.sampled_from([ErrorCode.RPC_TIMEOUT, ErrorCode.RPC_DISCONNECT, ErrorCode.RPC_AUTH])
NUMBERS = st.integers(1, 3).map(lambda n: msgspec.Raw(b"%d" % n))
LISTS = st.dictionaries(st.sampled_from("abc"), NUMBERS, max_size=3)


class Request(NamedTuple):
    number: int
    sent: Instant


def announced(draft: Draft) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(bytes(draft.data))
    return data | {"as_of": None if data["as_of"] is None else from_rfc3339(data["as_of"])}


def held(value: Value) -> dict[str | None, msgspec.Raw]:
    return {None: value} if isinstance(value, msgspec.Raw) else dict(value.items())


class FreshnessMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    @initialize(
        target=requests,
        keyed=st.booleans(),
        on_change=st.booleans(),
        stale_repeat=st.booleans(),
        max_stale_s=st.none() | st.sampled_from([3.0, 15.0]),
    )
    def begin(
        self, keyed: bool, on_change: bool, stale_repeat: bool, max_stale_s: float | None
    ) -> MultipleResults[Request]:
        self.spec = SourceSpec(
            type="a.b",
            backend="engine",
            interval_s=INTERVAL_S,
            timeout_s=TIMEOUT_S,
            keyed=keyed,
            on_change=on_change,
            stale_repeat=stale_repeat,
            max_stale_s=max_stale_s,
        )
        self.source = Freshness(self.spec)
        self.mono, self.wall = 100.0, START
        self.state = State.CLOSED
        self.opened_by = ErrorCode.RPC_DISCONNECT
        # the past
        self.sent = 0
        self.ends: dict[int, ErrorCode | None] = {}
        self.held: Request | None = None
        self.value: dict[str | None, msgspec.Raw] = {}
        self.restored: Instant | None = None
        self.offset = 0.0
        self.known = False
        # the client
        self.retained: dict[str | None, Draft] = {}
        self.as_ofs: dict[str | None, tuple[float, Instant]] = {}  # the newest told of each, and when
        self.freshness: dict[str, Any] | None = None
        self.reason: tuple[ErrorCode | None, ErrorCode | None] = None, None
        self.believes_expired = False
        return multiple(self.send(), self.send(), self.send())

    @property
    def now(self) -> Instant:
        return Instant(self.mono, self.wall)

    @property
    def cause(self) -> ErrorCode | None:
        return None if self.state is State.CLOSED else self.opened_by

    @property
    def breaker(self) -> BreakerView:
        is_open = self.state is State.OPEN
        return breaker_view(self.state, cause=self.cause, retry_at=START + 77.0 if is_open else None)

    # what happens

    @rule(
        seconds=st.sampled_from([0.0, 0.5, 2.0, 4.0, 9.0, 30.0]),
        jump=st.sampled_from([0.0, 0.0, 0.0, -900.0, 900.0, -0.4, 0.4]),
    )
    def time_passes(self, seconds: float, jump: float) -> None:
        """The caller keeps its promise: it reviews when a review is due, and at no other time."""
        self.wall += jump
        until = self.mono + seconds
        while (due := self.source.untrue_at) is not None and due <= until:
            self.wall += max(0.0, due - self.mono)
            self.mono = max(self.mono, due)
            self.hear(self.source.publish_changes(self.now, self.breaker))
            following = self.source.untrue_at
            assert following is None or following > self.mono, "a review leaves nothing to review"
        self.wall += until - self.mono
        self.mono = until

    @rule(target=requests)
    def ask(self) -> Request:
        return self.send()

    @rule(code=CODES, trips=st.booleans())
    def ask_and_fail(self, code: ErrorCode, trips: bool) -> None:
        self.end_badly(self.send(), code, trips)

    @rule(number=NUMBERS, items=LISTS, closes=st.booleans())
    def ask_and_answer(self, number: msgspec.Raw, items: dict[str, msgspec.Raw], closes: bool) -> None:
        self.end_well(self.send(), items if self.spec.keyed else number, closes)

    @rule(request=requests, code=CODES, trips=st.booleans())
    def fail(self, request: Request, code: ErrorCode, trips: bool) -> None:
        """Also out of order, and twice."""
        self.end_badly(request, code, trips)

    @rule(request=requests, number=NUMBERS, items=LISTS, closes=st.booleans())
    def answer(self, request: Request, number: msgspec.Raw, items: dict[str, msgspec.Raw], closes: bool) -> None:
        """Also out of order, and twice."""
        self.end_well(request, items if self.spec.keyed else number, closes)

    def send(self) -> Request:
        self.sent += 1
        return Request(self.sent, self.now)

    def end_badly(self, request: Request, code: ErrorCode, trips: bool) -> None:
        if trips:
            self.state = State.OPEN
            self.opened_by = code
        is_news = request.number > max(self.ends, default=0)
        if is_news:
            self.ends[request.number] = code
            self.known = True
        update = self.source.failed(request.number, code=code, now=self.now, breaker=self.breaker)
        self.hear(update, tick=is_news)

    def end_well(self, request: Request, value: Value, closes: bool) -> None:
        if closes:
            self.state = State.CLOSED
        is_news = request.number > (self.held.number if self.held else 0)
        before = self.value
        if is_news:
            self.held = request
            self.offset = request.sent.wall - request.sent.mono
            self.value = held(value)
            self.ends.setdefault(request.number, None)
            self.known = True
        update = self.source.answered(
            request.number, sent=request.sent, value=value, now=self.now, breaker=self.breaker
        )
        tells_all = is_news and not self.spec.keyed and not self.spec.on_change
        changed = [key for key, data in self.value.items() if tells_all or before.get(key) != data]
        self.hear(update, tick=is_news, changed=changed, gone=before.keys() - self.value.keys())

    @rule(number=NUMBERS, items=LISTS, age=st.sampled_from([-50.0, 0.0, 2.0, 12.0, 100.0]))
    def restore(self, number: msgspec.Raw, items: dict[str, msgspec.Raw], age: float) -> None:
        value: Value = items if self.spec.keyed else number
        is_news = self.since is None
        if is_news:
            self.restored = Instant(self.mono - max(0.0, age), self.wall - max(0.0, age))
            self.offset = self.wall - self.mono
            self.value = held(value)
            self.known = True
        update = self.source.load_saved(value, as_of=self.wall - age, now=self.now, breaker=self.breaker)
        self.hear(update, changed=self.value if is_news else ())

    @rule(state=st.sampled_from(State), code=CODES)
    def breaker_moves(self, state: State, code: ErrorCode) -> None:
        self.state = state
        self.opened_by = code
        self.hear(self.source.publish_changes(self.now, self.breaker))

    @rule()
    def refused_tick(self) -> None:
        self.known = True
        self.hear(self.source.not_asked(self.now, self.breaker), tick=True)

    # the model

    @property
    def newest_end(self) -> ErrorCode | None:
        return self.ends[max(self.ends)] if self.ends else None

    @property
    def since(self) -> Instant | None:
        return self.held.sent if self.held else self.restored

    @property
    def age_s(self) -> float:
        assert self.since is not None
        return self.mono - self.since.mono

    @property
    def as_of(self) -> float | None:
        """As the clock was when the request was sent, moved by each step of more than 1 s since; never beyond now."""
        if self.since is None:
            return None
        offset = self.wall - self.mono
        if abs(offset - self.offset) > 1.0:
            self.offset = offset
        return min(self.since.mono + self.offset, self.wall)

    def code(self) -> ErrorCode | None:
        if self.state is not State.CLOSED:
            return ErrorCode.CIRCUIT_BREAKER_OPEN
        if self.newest_end is not None:
            return self.newest_end
        if self.since is None:
            return None
        if self.held is None:
            return ErrorCode.RESTORED
        return ErrorCode.OVERDUE if self.age_s >= LIMIT_S else None

    @property
    def stale(self) -> bool:
        return self.code() is not None or self.since is None

    @property
    def expired(self) -> bool:
        limit = self.spec.max_stale_s
        return self.stale and self.since is not None and limit is not None and self.age_s >= limit

    # the client

    def hear(
        self,
        update: Update,
        *,
        tick: bool = False,
        changed: Collection[str | None] = (),
        gone: Collection[str | None] = (),
    ) -> None:
        """Take in `update`, which must be exactly what the model predicts.

        `tick`: a due tick, which repeats what is stale.
        """
        told = self.freshness
        reason = self.code(), self.cause
        anew = told is not None and told["stale"] and self.stale and reason != self.reason
        moved = told is None or (told["stale"], self.believes_expired) != (self.stale, self.expired)
        moved = moved or (anew and reason[0] == "CIRCUIT_BREAKER_OPEN")
        moved = moved or (anew and self.reason[0] in ("RESTORED", None))
        # Without a value nothing is repeated: `source.freshness` alone was published, and is not for another reason.
        repeats = tick and self.stale and self.spec.stale_repeat and not self.spec.keyed and bool(self.value)
        data = [draft for draft in update.drafts if draft.type == "a.b"]
        all_of_them = moved or repeats or (anew and (changed or gone))
        expected = self.value if self.known and all_of_them else changed
        code, cause = self.reason = reason if all_of_them or not anew else self.reason
        assert sorted((str(draft.key), draft.gone) for draft in data) == sorted(
            [(str(key), False) for key in expected] + [(str(key), True) for key in gone]
        )
        for draft in data:
            assert (draft.source, draft.retain, draft.stale, draft.error_code) == ("engine", True, self.stale, code)
            assert (draft.retry_at, draft.cause) == (self.breaker.retry_at, cause)
            assert draft.as_of == pytest.approx(self.as_of, abs=1e-5)
            assert draft.as_of is not None
            assert draft.as_of <= self.wall, "never later than its timestamp"
            if draft.gone:
                del self.retained[draft.key]
            else:
                self.retained[draft.key] = draft
                self.as_ofs[draft.key] = draft.as_of, self.now
        announcements = [announced(draft) for draft in update.drafts if draft.type == "source.freshness"]
        was_known = None if told is None else (told["stale"], told["as_of"] is None, told["error_code"])
        if self.known and was_known != (self.stale, self.since is None, code):
            (self.freshness,) = announcements
            as_of = self.freshness.pop("as_of")
            assert self.freshness == {"type": "a.b", "stale": self.stale, "error_code": code}
            self.freshness["as_of"] = as_of
            assert as_of == (None if self.as_of is None else pytest.approx(self.as_of, abs=0.002))
        else:
            assert announcements == [], "every change of freshness is told once"
        self.believes_expired = self.known and self.expired
        if update.as_of is not None:
            assert update.as_of == pytest.approx(self.as_of, abs=1e-5)
            self.as_ofs = dict.fromkeys(self.retained, (update.as_of, self.now))

    @invariant()
    def the_client_believes_the_truth(self) -> None:
        if not self.known:
            assert self.retained == {}
            return
        assert self.freshness is not None
        assert self.freshness["stale"] == self.stale
        assert self.retained.keys() == self.value.keys()
        for key, draft in self.retained.items():
            assert (draft.stale, draft.expired) == (self.stale, self.expired)
            assert draft.data == (msgspec.Raw(b"null") if self.expired else self.value[key])
            assert draft.error_code == self.freshness["error_code"], "an outage has one reason"
            assert draft.as_of is not None
            as_of, then = self.as_ofs[key]
            believed_s = then.wall - as_of + self.mono - then.mono
            assert abs(believed_s - self.age_s) < 1.001, "9: its age is known, whatever becomes of the clock"

    @invariant()
    def fresh_is_claimed_only_rightly(self) -> None:
        status = self.source.status(self.now, self.breaker)
        assert (status.stale, status.error_code) == (self.stale, self.code())
        assert status.expired == self.expired
        assert status.as_of == (None if self.as_of is None else pytest.approx(self.as_of, abs=1e-5))
        if not status.stale:
            assert self.state is State.CLOSED, "8: fresh needs a closed breaker"
            assert self.newest_end is None, "8: and a last attempt that succeeded"
            assert self.held is not None

    @invariant()
    def no_failure_touches_the_value(self) -> None:
        assert self.source.items == self.value


FreshnessMachine.TestCase.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=200, stateful_step_count=40
)
TestFreshnessModel = FreshnessMachine.TestCase
