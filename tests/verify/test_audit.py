"""What the audit of a stream and of a call log finds, and what it lets pass."""

from typing import Any

import msgspec
import pytest

from tidegate.verify import audit
from tidegate.verify.faultproxy import CallRecord
from tidegate.verify.frames import Frame, Welcome, read_frame

WELCOME = Welcome(epoch="e", seq=10, resumed=False, heartbeat_interval_s=1.0)
TYPES = ("system.status",)


def time(second: float) -> str:
    return f"2026-11-22T21:40:{second:06.3f}Z"


def frame(event_type: str, *, at: float = 1.0, data: object = None, **fields: Any) -> Frame:
    message = {"type": event_type, "timestamp": time(at), "data": data, **fields}
    return read_frame(msgspec.json.encode(message))


def value(at: float, **fields: Any) -> Frame:
    fresh = {"stale": False, "as_of": time(1), "source": "engine", "data": {"n": 1}}
    return frame("system.status", at=at, **{**fresh, **fields})


def stale(at: float, **fields: Any) -> Frame:
    return value(at, **{"stale": True, "error_code": "RPC_TIMEOUT", **fields})


def moved(state: str, breaker: str = "engine") -> Frame:
    data = {
        "breaker": breaker,
        "state": state,
        "from": "closed",
        "reason": "r",
        "forced": False,
        "failure_count": 0,
        "open_count": 0,
        "opened_at": None,
        "retry_at": None,
    }
    return frame("circuit_breaker.state", key=breaker, data=data)


def numbered(*seqs: int | None, **fields: Any) -> list[Frame]:
    return [frame("a.b", seq=seq, **fields) if seq is not None else frame("pong") for seq in seqs]


@pytest.mark.parametrize(
    ("frames", "everything", "wrong"),
    [
        (numbered(11, None, 12, 13), True, []),
        (numbered(3, 20, snapshot=True) + numbered(11), True, []),
        (numbered(11, 13), True, ["position 12 is missing before 13 (a.b)"]),
        (numbered(12), True, ["position 11 is missing before 12 (a.b)"]),
        (numbered(15), True, ["position 11 to 14 is missing before 15 (a.b)"]),
        (numbered(11, 11), True, ["position 11 (a.b) came after 11"]),
        (numbered(10), False, ["position 10 (a.b) came after 10"]),
        (numbered(12, 30), False, []),
        (numbered(30, 12), False, ["position 12 (a.b) came after 30"]),
        ([frame("gap", data={"reason": "slow_consumer"})], False, ['a gap was announced: {"reason":"slow_consumer"}']),
    ],
)
def test_a_hole_in_a_stream_is_found(frames: list[Frame], everything: bool, wrong: list[str]) -> None:
    assert audit.gaps(frames, welcome=WELCOME, everything=everything) == wrong


@pytest.mark.parametrize(
    ("frames", "wrong"),
    [
        ([value(2), stale(3), stale(4), value(5, as_of=time(5), data={"n": 2})], []),
        ([moved("open"), stale(2, error_code="CIRCUIT_BREAKER_OPEN", retry_at=time(9)), moved("closed"), value(3)], []),
        ([moved("open", "other"), value(2)], []),
        ([value(1), frame("system.status", gone=True, key="k")], []),
        ([value(1, key="k", data=1), value(1, key="l", data=2)], []),
        ([stale(2), stale(3, data=None, expired=True)], []),
        ([stale(2, stale=None)], ["says neither stale nor fresh"]),
        ([value(2, as_of=None)], ["has no as_of or no source"]),
        ([value(2, source=None)], ["has no as_of or no source"]),
        ([stale(2, error_code=None)], ["is stale and has no error_code"]),
        ([value(2, error_code="RPC_TIMEOUT")], ["is fresh and has the error_code RPC_TIMEOUT"]),
        ([moved("open"), value(2)], ["is fresh while the breaker is open"]),
        ([moved("half_open"), value(2)], ["is fresh while the breaker is half_open"]),
        (
            [moved("open"), stale(2, error_code="CIRCUIT_BREAKER_OPEN")],
            ["has no retry_at although the breaker is open"],
        ),
        ([value(2, as_of=time(2)), stale(3)], [f"as_of went back from {time(2)} to {time(1)}"]),
        ([value(2), stale(3, data={"error": 1})], [f"the data of {time(1)} changed to " + repr(b'{"error":1}')]),
    ],
)
def test_what_cannot_be_true_is_found(frames: list[Frame], wrong: list[str]) -> None:
    found = audit.lies(frames, types=TYPES, breaker="engine")
    assert [text.partition("system.status: ")[2] for text in found] == wrong


def reported(at: float, failures: int, suppressed: int = 0, source: str = "system.status") -> Frame:
    data = {
        "backend": "engine",
        "source": source,
        "error_code": "RPC_TIMEOUT",
        "message": "m",
        "consecutive_failures": failures,
        "retry_at": None,
        "suppressed": suppressed,
    }
    return frame("rpc_error", at=at, data=data)


@pytest.mark.parametrize(
    ("frames", "interval_s", "wrong"),
    [
        ([reported(1, 1), reported(2, 4, 2), reported(3, 5), reported(3.1, 1)], 1.0, []),
        ([reported(1, 1), reported(1.5, 2)], 1.0, ["two rpc_error in one episode, 0.500 s apart"]),
        ([reported(1, 1), reported(1.5, 2)], None, []),
        ([reported(1, 1), reported(2, 4, 1)], 1.0, ["3 failures since the last rpc_error, but suppressed is 1"]),
        ([reported(1, 1), reported(1, 1, source="other.source"), reported(1.5, 2, source="other.source")], 1.0, []),
        ([reported(1, 7), reported(1.5, 1, 3)], 1.0, []),
        ([reported(1, 7), reported(2, 3, 4)], 1.0, []),
        ([reported(1, 7), reported(2, 3, 1)], 1.0, ["-4 failures since the last rpc_error, but suppressed is 1"]),
    ],
)
def test_a_report_too_many_or_uncounted_is_found(
    frames: list[Frame], interval_s: float | None, wrong: list[str]
) -> None:
    found = audit.misreports(frames, types=TYPES, interval_s=interval_s)
    assert [text.removeprefix("system.status: ") for text in found] == wrong


def call(came: float, ended: float | None, method: str = "a") -> CallRecord:
    return CallRecord(
        number=1,
        http_method="POST",
        path="/rpc",
        methods=(method,),
        came_mono=came,
        came_wall=came,
        ended_mono=ended,
    )


@pytest.mark.parametrize(
    ("calls", "most"),
    [
        ([], 0),
        ([call(1, 2), call(2, 3)], 1),
        ([call(1, 3), call(2, 4), call(3, 5)], 2),
        ([call(1, None), call(5, 6), call(7, 8)], 2),
        ([call(1, None, "b"), call(5, 6)], 1),
    ],
)
def test_calls_under_way_at_the_same_time_are_counted(calls: list[CallRecord], most: int) -> None:
    assert audit.most_at_once(calls, methods=("a",)) == most


def test_calls_of_every_method_are_counted_together() -> None:
    assert audit.most_at_once([call(1, None, "b"), call(5, 6)]) == 2


def synced(seq: int) -> Frame:
    return frame("synced", data={"epoch": "e", "seq": seq})


WELCOMED = frame("welcome", data={"epoch": "e", "seq": 10, "resumed": False, "heartbeat_interval_s": 1})


@pytest.mark.parametrize(
    ("frames", "wrong"),
    [
        ([WELCOMED, *numbered(3, snapshot=True), *numbered(11), synced(11), *numbered(12)], []),
        ([WELCOMED, synced(10), *numbered(11)], []),
        ([WELCOMED, *numbered(3, snapshot=True), *numbered(11)], ["synced did not come"]),
        ([WELCOMED, synced(10), synced(10)], ["synced came although nothing had been handed over"]),
        ([WELCOMED, synced(10), *numbered(3, snapshot=True)], ["the snapshot of a.b came after synced"]),
        ([WELCOMED, *numbered(11, 12), synced(11)], ["synced says 11 after 12"]),
    ],
)
def test_synced_comes_once_behind_all_that_is_handed_over(frames: list[Frame], wrong: list[str]) -> None:
    assert audit.handovers(frames) == wrong
