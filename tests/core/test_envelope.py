import json
from typing import Any

import msgspec
import pytest
from fanout import EPOCH, WALL, draft, event
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tidegate.core import envelope as wire
from tidegate.core.events import NOT_OURS, Draft, Position
from tidegate.core.instant import rfc3339
from tidegate.errors import ErrorCode, MessageErrorCode

STAMP = "2026-11-22T21:40:03.123Z"


def shown(message: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(wire.encode(message))
    return decoded


class TestEvents:
    def test_the_least_that_an_event_carries(self) -> None:
        published = wire.event_at(7, wire.encode_draft(draft("a.b", {"n": 1}), timestamp=WALL))
        assert published.json == b'{"type":"a.b","timestamp":"%b","seq":7,"data":{"n":1}}' % STAMP.encode()

    def test_everything_that_an_event_may_carry(self) -> None:
        published = event(
            "a.b",
            7,
            None,
            key="k",
            source="engine",
            stale=True,
            as_of=WALL - 1,
            error_code=ErrorCode.CIRCUIT_BREAKER_OPEN,
            retry_at=WALL + 1,
            cause=ErrorCode.RPC_TIMEOUT,
            expired=True,
            gone=True,
            about=frozenset({"secret"}),
            ttl_s=3.0,
            retain=True,
        )
        assert json.loads(published.json) == {
            "type": "a.b",
            "timestamp": STAMP,
            "seq": 7,
            "key": "k",
            "source": "engine",
            "stale": True,
            "as_of": "2026-11-22T21:40:02.123Z",
            "error_code": "CIRCUIT_BREAKER_OPEN",
            "retry_at": "2026-11-22T21:40:04.123Z",
            "cause": "RPC_TIMEOUT",
            "expired": True,
            "gone": True,
            "data": None,
        }

    def test_a_fresh_event_says_that_it_is_not_stale(self) -> None:
        shown = json.loads(event("a", 1, source="s", stale=False, as_of=WALL).json)
        assert shown["stale"] is False
        assert "error_code" not in shown

    def test_what_has_no_place_has_no_seq(self) -> None:
        assert "seq" not in json.loads(event("heartbeat", None).json)

    @pytest.mark.parametrize("number", [b"1.10", b"1152921504606846976", b"1e400", b"-0.0", b"0.1000000000000000055"])
    def test_digits_pass_untouched(self, number: bytes) -> None:
        published = wire.event_at(1, wire.encode_draft(Draft(type="a", data=Raw(number)), timestamp=WALL))
        assert published.json.endswith(b'"data":%b}' % number)

    @given(st.text(min_size=1))
    def test_any_key_arrives(self, key: str) -> None:
        assert json.loads(event("a", 1, key=key).json)["key"] == key

    @pytest.mark.parametrize("as_of", [WALL + 0.001, WALL + 3600])
    def test_as_of_is_never_later_than_its_timestamp(self, as_of: float) -> None:
        """The clock may be set back between the answer and its publication."""
        published = event("a", 3, source="s", stale=False, as_of=as_of)
        shown = json.loads(published.json)
        assert shown["as_of"] == shown["timestamp"]


def as_told(published: Draft, seq: int | None, snapshot: bool = False) -> wire.EventEnvelope:
    """The envelope field by field, as docs/protocol.md has it."""

    def present(value: Any) -> Any:
        return msgspec.UNSET if value is None else value

    return wire.EventEnvelope(
        type=published.type,
        timestamp=STAMP,
        seq=present(seq),
        key=present(published.key),
        source=present(published.source),
        stale=present(published.stale),
        as_of=present(published.as_of and rfc3339(published.as_of)),
        error_code=present(published.error_code),
        retry_at=present(published.retry_at and rfc3339(published.retry_at)),
        cause=present(published.cause),
        expired=published.expired or msgspec.UNSET,
        gone=published.gone or msgspec.UNSET,
        snapshot=snapshot or msgspec.UNSET,
        data=published.data,
    )


DRAFTS = st.builds(
    Draft,
    type=st.sampled_from(["a", "a.b", "storage.pool_status"]),
    data=st.sampled_from([Raw(b"null"), Raw(b'{"n":1.10}')]),
    key=st.none() | st.text(),
    gone=st.booleans(),
    source=st.none() | st.text(),
    stale=st.none() | st.booleans(),
    as_of=st.none() | st.floats(WALL - 10, WALL),
    error_code=st.none() | st.sampled_from(ErrorCode),
    retry_at=st.none() | st.floats(WALL, WALL + 10),
    cause=st.none() | st.sampled_from(ErrorCode),
    expired=st.booleans(),
    fresh_s=st.none() | st.just(3.0),
    about=st.none() | st.just(frozenset({"x"})),
)


class TestSplicing:
    @given(DRAFTS, st.integers(1, 2**53))
    def test_the_bytes_are_those_of_the_whole_envelope(self, published: Draft, seq: int) -> None:
        handed = wire.encode_draft(published, timestamp=WALL)
        assert handed.json == wire.encode(as_told(published, None))
        assert wire.event_at(seq, handed).json == wire.encode(as_told(published, seq))
        assert wire.event_without_position(published, timestamp=WALL).json == handed.json

    @given(DRAFTS)
    def test_so_are_those_of_a_snapshot_that_says_something_else(self, published: Draft) -> None:
        event = wire.event_at(7, wire.encode_draft(draft("a"), timestamp=WALL))
        assert wire.encode_restated(event, published) == wire.encode(as_told(published, 7, snapshot=True))


class TestSnapshots:
    @given(st.text(), st.none() | st.floats(WALL - 10, WALL))
    def test_it_is_the_event_marked(self, data: str, as_of: float | None) -> None:
        published = event("a", 3, data, source="s", stale=False, as_of=as_of, key="k")
        assert json.loads(wire.encode_snapshot(published)) == {**json.loads(published.json), "snapshot": True}

    def test_its_digits_pass_untouched_also_when_it_is_encoded_anew(self) -> None:
        published = wire.event_at(1, wire.encode_draft(Draft(type="a", data=Raw(b"1.10"), as_of=WALL), timestamp=WALL))
        newer = msgspec.structs.replace(published.draft, as_of=WALL + 1)
        assert b'"data":1.10' in wire.encode_restated(published, newer)


class TestMessages:
    def test_welcome(self) -> None:
        data = wire.WelcomeData(
            request_id="r1",
            client_id="c1",
            protocol=wire.PROTOCOL_VERSION,
            server="tidegate/0.1.0",
            epoch=EPOCH,
            seq=184,
            resumed=False,
            subscriptions=["*"],
            heartbeat_interval_s=10.0,
        )
        assert shown(wire.Welcome(timestamp=STAMP, data=data)) == {
            "type": "welcome",
            "timestamp": STAMP,
            "data": {
                "client_id": "c1",
                "request_id": "r1",
                "protocol": 1,
                "server": "tidegate/0.1.0",
                "epoch": EPOCH,
                "seq": 184,
                "resumed": False,
                "subscriptions": ["*"],
                "heartbeat_interval_s": 10.0,
            },
        }

    def test_synced(self) -> None:
        assert json.loads(wire.encode_synced(Position(EPOCH, 184), timestamp=WALL)) == {
            "type": "synced",
            "timestamp": STAMP,
            "data": {"epoch": EPOCH, "seq": 184},
        }

    def test_subscribed(self) -> None:
        data = wire.SubscribedData(types=["a", "b"], added=["b"], epoch=EPOCH, seq=3)
        assert shown(wire.Subscribed(timestamp=STAMP, id=Raw(b'"x"'), data=data)) == {
            "type": "subscribed",
            "timestamp": STAMP,
            "id": "x",
            "data": {"types": ["a", "b"], "added": ["b"], "epoch": EPOCH, "seq": 3},
        }

    def test_unsubscribed(self) -> None:
        data = wire.UnsubscribedData(types=["a"], removed=["b"])
        assert shown(wire.Unsubscribed(timestamp=STAMP, data=data)) == {
            "type": "unsubscribed",
            "timestamp": STAMP,
            "data": {"types": ["a"], "removed": ["b"]},
        }

    def test_authenticated(self) -> None:
        message = wire.Authenticated(timestamp=STAMP, data=wire.AuthenticatedData(types=["a"]))
        assert shown(message) == {"type": "authenticated", "timestamp": STAMP, "data": {"types": ["a"]}}

    def test_pong(self) -> None:
        message = wire.Pong(timestamp=STAMP, id=Raw(b"36893488147419103232"))
        assert wire.encode(message) == b'{"type":"pong","timestamp":"%b","id":36893488147419103232,"data":{}}' % (
            STAMP.encode()
        )

    def test_error(self) -> None:
        data = wire.ErrorData(code=MessageErrorCode.RATE_LIMITED, message="m", retryable=True)
        assert shown(wire.Error(timestamp=STAMP, data=data)) == {
            "type": "error",
            "timestamp": STAMP,
            "data": {"code": "RATE_LIMITED", "message": "m", "retryable": True},
        }

    @pytest.mark.parametrize(("requested", "told"), [(Position(EPOCH, 4), "e1:4"), (None, None), (NOT_OURS, None)])
    def test_gap(self, requested: Position | None, told: str | None) -> None:
        encoded = wire.encode_gap("slow_consumer", timestamp=WALL, requested=requested, skipped={"a": 2})
        assert json.loads(encoded) == {
            "type": "gap",
            "timestamp": STAMP,
            "data": {"reason": "slow_consumer", "requested": told, "skipped": {"a": 2}},
        }

    def test_connection_error(self) -> None:
        data = wire.ConnectionErrorData(code=4408, message="m", retryable=True)
        assert shown(wire.ConnectionError(timestamp=STAMP, data=data)) == {
            "type": "connection_error",
            "timestamp": STAMP,
            "data": {"code": 4408, "message": "m", "retryable": True},
        }

    def test_the_notification_of_a_drain(self) -> None:
        data = wire.NotificationData(level="warning", message="m", code="DRAINING", retry_after_ms=5)
        assert shown(wire.Notification(timestamp=STAMP, data=data)) == {
            "type": "notification",
            "timestamp": STAMP,
            "data": {"level": "warning", "message": "m", "code": "DRAINING", "retry_after_ms": 5},
        }

    def test_raw_is_the_data_of_a_draft(self) -> None:
        assert bytes(wire.raw({"a": [1, None]})) == b'{"a":[1,null]}'
        assert isinstance(wire.raw(1), msgspec.Raw)
