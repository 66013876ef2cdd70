import json
from typing import Any

import msgspec
import pytest
from fanout import SESSION_LIMITS
from msgspec import UNSET

from tidegate.core.access.grant import EVERYTHING
from tidegate.core.delivery.session import (
    PATIENCE_S,
    AddPatterns,
    Authenticate,
    Close,
    Effect,
    Refuse,
    RemovePatterns,
    SendPong,
    SessionLimits,
    StreamSession,
)
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, MessageErrorCode

DEEP = b"[" * 10_000 + b"]" * 10_000


def session(*patterns: str, allowed: PatternSet = EVERYTHING, limits: SessionLimits = SESSION_LIMITS) -> StreamSession:
    return StreamSession(PatternSet(patterns), allowed=allowed, limits=limits, now=0.0)


def send(to: StreamSession, message: Any, now: float = 0.0) -> Effect:
    return to.receive(message if isinstance(message, bytes) else json.dumps(message).encode(), now)


def refused(effect: Effect) -> tuple[MessageErrorCode, str]:
    assert isinstance(effect, Refuse)
    return effect.error.code, str(effect.error)


def echoed(effect: Effect) -> Any:
    assert not isinstance(effect, Close)
    return UNSET if effect.id is UNSET else bytes(effect.id)


class TestSubscribe:
    @pytest.mark.parametrize(
        "message",
        [
            {"type": "subscribe", "data": {"types": ["b", "c.*"]}},
            {"type": "subscribe", "types": ["b", "c.*"]},
            {"type": "subscribe", "types": ["b"], "data": {"types": ["c.*"]}},
            {"type": "subscribe", "types": ["b", "c.*", "b", "a"], "data": {"other": 1}, "more": None},
        ],
    )
    def test_adds_patterns(self, message: dict[str, Any]) -> None:
        client = session("a")
        effect = send(client, message)
        assert isinstance(effect, AddPatterns)
        assert effect.added == PatternSet(["b", "c.*"])
        assert effect.patterns == client.patterns == PatternSet(["a", "b", "c.*"])

    def test_to_a_pattern_again_adds_nothing(self) -> None:
        effect = send(session("a", "b"), {"type": "subscribe", "types": ["a"]})
        assert isinstance(effect, AddPatterns)
        assert (effect.added, effect.patterns) == (PatternSet(), PatternSet(["a", "b"]))

    def test_to_nothing_changes_nothing(self) -> None:
        effect = send(session("a"), {"type": "subscribe", "data": {"types": []}})
        assert isinstance(effect, AddPatterns)
        assert (effect.added, effect.patterns) == (PatternSet(), PatternSet(["a"]))

    @pytest.mark.parametrize(
        ("types", "code"),
        [
            (["b", "B"], MessageErrorCode.INVALID_PATTERN),
            (["b", "a*"], MessageErrorCode.INVALID_PATTERN),
            (["b", "secret"], MessageErrorCode.FORBIDDEN),
            (["b", "*"], MessageErrorCode.FORBIDDEN),
            ([f"b.{n}" for n in range(8)], MessageErrorCode.TOO_MANY_SUBSCRIPTIONS),
        ],
    )
    def test_is_all_or_nothing(self, types: list[str], code: MessageErrorCode) -> None:
        client = session("a", allowed=PatternSet(["a", "b", "b.*"]))
        effect = send(client, {"type": "subscribe", "id": 1, "types": types})
        assert refused(effect)[0] is code
        assert echoed(effect) == b"1"
        assert client.patterns == PatternSet(["a"])

    def test_names_what_is_not_covered(self) -> None:
        client = session(allowed=PatternSet(["a.*"]))
        effect = send(client, {"type": "subscribe", "types": ["z", "a.b", "b"]})
        assert refused(effect)[1] == "the token does not cover b, z"

    def test_what_needs_no_coverage(self) -> None:
        types = ["heartbeat", "notification", "rpc_error", "source.freshness"]
        effect = send(session(allowed=PatternSet()), {"type": "subscribe", "types": types})
        assert isinstance(effect, AddPatterns)
        assert effect.added.sorted() == types

    def test_as_many_patterns_as_are_allowed(self) -> None:
        client = session("a")
        assert isinstance(send(client, {"type": "subscribe", "types": [f"b.{n}" for n in range(7)]}), AddPatterns)
        assert isinstance(send(client, {"type": "subscribe", "types": ["a"]}), AddPatterns)
        code, message = refused(send(client, {"type": "subscribe", "types": ["c"]}))
        assert code is MessageErrorCode.TOO_MANY_SUBSCRIPTIONS
        assert message == "expected at most 8 patterns on a connection, this would make 9"


class TestUnsubscribe:
    @pytest.mark.parametrize(
        ("types", "removed"), [(["a"], ["a"]), (["a.*"], []), (["a", "*", "NO!"], ["*", "a"]), ([], [])]
    )
    def test_removes_by_exact_text(self, types: list[str], removed: list[str]) -> None:
        client = session("a", "a.b", "*")
        effect = send(client, {"type": "unsubscribe", "data": {"types": types}})
        assert isinstance(effect, RemovePatterns)
        assert effect.removed.sorted() == removed
        assert effect.patterns == client.patterns == PatternSet({"a", "a.b", "*"} - set(removed))


class TestIds:
    @pytest.mark.parametrize(
        "request_id",
        [b"1", b"0", b"-7", b"18446744073709551616", b"9" * 300, b'""', b'"x"', b'"\\u00e4\\n"', '"ä"'.encode()],
    )
    def test_a_string_or_an_integer_comes_back_as_it_was_sent(self, request_id: bytes) -> None:
        effect = send(session(), b'{ "id" : %b , "type" : "ping" }' % request_id)
        assert isinstance(effect, SendPong)
        assert echoed(effect) == request_id

    def test_an_id_may_be_left_out(self) -> None:
        assert echoed(send(session(), {"type": "ping"})) is UNSET

    @pytest.mark.parametrize(
        "request_id", [b"null", b"true", b"1.5", b"1e3", b"[]", b"{}", b'"\\ud800"', b"9" * 5000, DEEP[:900]]
    )
    def test_any_other_id_is_refused_and_not_sent_back(self, request_id: bytes) -> None:
        effect = send(session(), b'{"id":%b,"type":"ping"}' % request_id)
        assert refused(effect)[0] in {MessageErrorCode.INVALID_MESSAGE, MessageErrorCode.INVALID_JSON}
        assert echoed(effect) is UNSET

    def test_a_long_id_comes_back_whole(self) -> None:
        request_id = b'"%b"' % (b"x" * 60_000)
        assert echoed(send(session(), b'{"type":"ping","id":%b}' % request_id)) == request_id


class TestBadMessages:
    @pytest.mark.parametrize(
        ("message", "code"),
        [
            (b"", MessageErrorCode.INVALID_JSON),
            (b"hello", MessageErrorCode.INVALID_JSON),
            (b'{"type":"ping"', MessageErrorCode.INVALID_JSON),
            (b'{"type":"ping"} x', MessageErrorCode.INVALID_JSON),
            (b'{"type":01}', MessageErrorCode.INVALID_JSON),
            (b'{"type":"subscribe","types":' + DEEP + b"}", MessageErrorCode.INVALID_JSON),
            (b'{"id":1,"data":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, MessageErrorCode.INVALID_JSON),
            (DEEP, MessageErrorCode.INVALID_MESSAGE),
            (b"[]", MessageErrorCode.INVALID_MESSAGE),
            (b"null", MessageErrorCode.INVALID_MESSAGE),
            (b'"ping"', MessageErrorCode.INVALID_MESSAGE),
            (b"{}", MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":null}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":["ping"]}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"Ping"}', MessageErrorCode.UNKNOWN_MESSAGE_TYPE),
            (b'{"type":""}', MessageErrorCode.UNKNOWN_MESSAGE_TYPE),
            (b'{"type":"subscribe"}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"subscribe","data":{}}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"subscribe","data":[]}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"subscribe","types":"a"}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"subscribe","types":[1]}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"subscribe","types":["a"],"data":{"types":{}}}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"subscribe","types":["\\ud800"]}', MessageErrorCode.INVALID_JSON),
            (b'{"type":"unsubscribe"}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"auth"}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"auth","data":{"token":1}}', MessageErrorCode.INVALID_MESSAGE),
            (b'{"type":"auth","token":"beside"}', MessageErrorCode.INVALID_MESSAGE),
        ],
    )
    def test_each_has_its_code_and_changes_nothing(self, message: bytes, code: MessageErrorCode) -> None:
        client = session("a")
        effect = send(client, message)
        assert refused(effect)[0] is code
        assert isinstance(effect, Refuse)
        assert not effect.error.retryable
        assert len(str(effect.error)) < 400
        assert client.patterns == PatternSet(["a"])

    @pytest.mark.parametrize(
        ("message", "at"), [(b'{"type":"ping","id":"\\ud83d"}', 21), (b'{"type":"ping","more":{"a":"x\\ude00"} }', 29)]
    )
    def test_half_a_surrogate_pair_is_told_by_its_place(self, message: bytes, at: int) -> None:
        code, words = refused(send(session(), message))
        assert code is MessageErrorCode.INVALID_JSON
        assert words.endswith(f"at byte {at}")

    def test_what_is_no_json_is_not_quoted_for_it_may_hold_a_token(self) -> None:
        _, words = refused(send(session(), b'{"type":"auth","data":{"token":"secret}}'))
        assert words.startswith("expected a JSON object: ")
        assert "secret" not in words

    def test_a_byte_order_mark_in_front_is_skipped(self) -> None:
        assert isinstance(send(session(), b'\xef\xbb\xbf{"type":"ping"}'), SendPong)

    @pytest.mark.parametrize("tail", [b'"type":1', b'"type":"nope"', b'"type":"subscribe"', b'"other":1'])
    def test_the_id_comes_back_where_it_is_readable(self, tail: bytes) -> None:
        assert echoed(send(session(), b'{"id":7,%b}' % tail)) == b"7"

    def test_the_message_says_what_was_expected_and_what_came(self) -> None:
        message = refused(send(session(), {"type": "publish"}))[1]
        assert message == "expected type subscribe, unsubscribe, ping or auth, got 'publish'"

    def test_a_binary_message_is_answered(self) -> None:
        assert refused(session().receive_binary(0.0)) == (
            MessageErrorCode.INVALID_MESSAGE,
            "expected a text message, got a binary one",
        )


class TestAuthentication:
    def test_hands_the_token_on(self) -> None:
        effect = send(session(), {"type": "auth", "id": 4, "data": {"token": "t"}})
        assert isinstance(effect, Authenticate)
        assert (effect.token, echoed(effect)) == ("t", b"4")

    def test_patterns_that_a_new_token_does_not_cover_end(self) -> None:
        client = session("a", "b.c", "b.*", "*", "heartbeat")
        left = client.renew(PatternSet(["a", "b.c"]))
        assert left == client.patterns == PatternSet(["a", "b.c", "heartbeat"])
        assert client.allowed == PatternSet(["a", "b.c"])
        assert refused(send(client, {"type": "subscribe", "types": ["b.*"]}))[0] is MessageErrorCode.FORBIDDEN


class TestRate:
    LIMITS = SessionLimits(patterns=8, messages_per_s=2.0, messages_burst=3)

    def limited(self) -> StreamSession:
        client = session(limits=self.LIMITS)
        for _ in range(3):
            assert isinstance(send(client, {"type": "ping"}), SendPong)
        return client

    def test_a_burst_then_a_steady_rate(self) -> None:
        client = self.limited()
        assert isinstance(send(client, {"type": "ping"}, 0.49), Refuse)
        assert isinstance(send(client, {"type": "ping"}, 0.5), SendPong)
        assert isinstance(send(client, {"type": "ping"}, 0.99), Refuse)
        assert isinstance(send(client, {"type": "ping"}, 1.0), SendPong)

    def test_an_unused_allowance_grows_no_larger_than_the_burst(self) -> None:
        client = self.limited()
        sent = [send(client, {"type": "ping"}, 1000.0) for _ in range(4)]
        assert [type(effect) for effect in sent] == [SendPong, SendPong, SendPong, Refuse]

    @pytest.mark.parametrize("message", [b'{"type":"subscribe","id":9,"types":["a"]}', b'{"type":"no","id":9}'])
    def test_what_is_too_much_is_refused_and_not_done(self, message: bytes) -> None:
        client = self.limited()
        effect = send(client, message)
        assert refused(effect) == (
            MessageErrorCode.RATE_LIMITED,
            "expected at most 2 messages per second and 3 at once",
        )
        assert isinstance(effect, Refuse)
        assert effect.error.retryable
        assert echoed(effect) == b"9"
        assert len(client.patterns) == 0

    @pytest.mark.parametrize("message", [b"no json", b'{"id":[]}', DEEP])
    def test_what_is_too_much_and_unreadable_is_limited_all_the_same(self, message: bytes) -> None:
        effect = send(self.limited(), message)
        assert refused(effect)[0] is MessageErrorCode.RATE_LIMITED
        assert echoed(effect) is UNSET

    def test_binary_messages_count(self) -> None:
        assert refused(self.limited().receive_binary(0.0))[0] is MessageErrorCode.RATE_LIMITED

    def flood(self, client: StreamSession, start: float, end: float) -> list[Effect]:
        """100 messages a second, by when each comes."""
        return [send(client, {"type": "ping"}, start + n / 100) for n in range(int((end - start) * 100))]

    def test_going_on_for_five_seconds_ends_the_connection(self) -> None:
        client = self.limited()
        assert PATIENCE_S == 5.0
        assert not any(isinstance(effect, Close) for effect in self.flood(client, 0.0, 4.99))
        effects = self.flood(client, 5.0, 5.1)
        assert next(effect for effect in effects if not isinstance(effect, SendPong)) == Close(
            CloseCode.TOO_MANY_MESSAGES, "messages went on coming after RATE_LIMITED"
        )

    def test_behaving_for_longer_than_that_is_forgiven(self) -> None:
        client = self.limited()
        self.flood(client, 0.0, 4.0)
        assert not any(isinstance(effect, Close) for effect in self.flood(client, 9.5, 14.4))


def test_effects_are_values() -> None:
    assert SendPong(UNSET) == SendPong(UNSET)
    with pytest.raises(AttributeError):
        SendPong(UNSET).id = msgspec.Raw(b"1")  # type: ignore[misc]
