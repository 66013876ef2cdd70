"""Which moves of a breaker are allowed, and which are found."""

from typing import Any

import msgspec
import pytest

from tidegate.verify.frames import Frame, read_frame
from tidegate.verify.moves import flapping_s, missteps


def time(second: float) -> str:
    return f"2026-11-22T21:40:{second:06.3f}Z"


def frame(event_type: str, at: float, data: object, **fields: Any) -> Frame:
    return read_frame(msgspec.json.encode({"type": event_type, "timestamp": time(at), "data": data, **fields}))


def moved(at: float, from_state: str, state: str, reason: str, *, n: int = 1, **fields: Any) -> Frame:
    """A move of the breaker. It opens for 5 s unless `retry_at` says otherwise."""
    is_open = state == "open"
    retry_at = fields.pop("retry_at", at + 5 if is_open else None)
    data = {
        "breaker": "engine",
        "state": state,
        "from": from_state,
        "reason": reason,
        "forced": fields.pop("forced", False),
        "failure_count": 5,
        "open_count": n,
        "opened_at": time(at) if is_open else None,
        "retry_at": None if retry_at is None else time(retry_at),
    }
    return frame("circuit_breaker.state", at, data, key="engine", **fields)


def caused(at: float, cause: str) -> Frame:
    fields = {"stale": True, "error_code": "CIRCUIT_BREAKER_OPEN", "cause": cause, "retry_at": time(59)}
    return frame("system.status", at, 1, as_of=time(0), source="engine", **fields)


def found(*frames: Frame) -> list[str]:
    return [
        text.partition("engine: ")[2]
        for text in missteps(frames, types=("system.status",), breaker="engine", open_max_s=15.0)
    ]


CLOSED = moved(0, "open", "closed", "reset", n=0, snapshot=True)
OPENED = moved(1, "closed", "open", "failure_threshold")
REACHED = moved(2, "open", "half_open", "reachable")
DUE = moved(6, "open", "half_open", "retry_due")


@pytest.mark.parametrize(
    "frames",
    [
        [CLOSED, OPENED, DUE, moved(6.1, "half_open", "closed", "probe_succeeded")],
        [OPENED, DUE, moved(6.1, "half_open", "open", "probe_failed", n=2)],
        [OPENED, caused(1, "RPC_DISCONNECT"), REACHED, moved(2.1, "half_open", "closed", "probe_succeeded")],
        [OPENED, caused(1, "RPC_TIMEOUT"), REACHED, moved(2.1, "half_open", "open", "probe_failed", n=2)],
        [OPENED, REACHED, moved(2.1, "half_open", "open", "probe_failed", retry_at=6), caused(2.1, "RPC_DISCONNECT")],
        [
            OPENED,
            REACHED,
            moved(8, "half_open", "open", "probe_failed", retry_at=6),
            moved(8, "open", "half_open", "retry_due"),
        ],
        [OPENED, moved(2, "open", "half_open", "poke"), moved(2.1, "half_open", "open", "probe_failed", n=2)],
        [OPENED, moved(2, "open", "closed", "reset", n=0), moved(3, "closed", "open", "failure_rate", n=1)],
        [
            CLOSED,
            moved(1, "closed", "open", "force_open", retry_at=None, forced=True),
            moved(2, "open", "closed", "reset", n=0),
        ],
        [moved(1, "closed", "closed", "force_closed", forced=True), moved(2, "closed", "closed", "reset", n=0)],
        [
            OPENED,
            DUE,
            moved(6.1, "half_open", "closed", "probe_succeeded"),
            moved(7, "closed", "open", "failure_threshold", n=2),
        ],
    ],
)
def test_what_a_breaker_may_do(frames: list[Frame]) -> None:
    assert found(*frames) == []


@pytest.mark.parametrize(
    ("frames", "wrong"),
    [
        ([OPENED, moved(5.9, "open", "half_open", "retry_due")], f"half-open before its retry_at, {time(6)}"),
        (
            [OPENED, caused(1, "RPC_HTTP_STATUS"), REACHED],
            "half-open because it can be reached, after RPC_HTTP_STATUS: that it could before, too",
        ),
        (
            [OPENED, moved(2, "open", "closed", "probe_succeeded")],
            "open → closed (probe_succeeded) is no move of a breaker",
        ),
        ([OPENED, moved(2, "closed", "half_open", "reachable")], "closed → half_open (reachable), but it was open"),
        ([CLOSED, moved(2, "closed", "half_open", "poke")], "closed → half_open (poke) is no move of a breaker"),
        (
            [OPENED, DUE, moved(6.1, "half_open", "open", "reachable", n=2)],
            "half_open → open (reachable) is no move of a breaker",
        ),
        (
            [OPENED, DUE, moved(6.1, "half_open", "open", "probe_failed", retry_at=6)],
            "opened until the same retry_at after half-open (retry_due), open_count 1 after 1",
        ),
        (
            [
                OPENED,
                moved(2, "open", "half_open", "poke"),
                moved(2.1, "half_open", "open", "probe_failed", retry_at=6),
            ],
            "opened until the same retry_at after half-open (poke), open_count 1 after 1",
        ),
        (
            [OPENED, REACHED, moved(2.1, "half_open", "open", "probe_failed", n=2, retry_at=6)],
            "opened until the same retry_at after half-open (reachable), open_count 2 after 1",
        ),
        (
            [OPENED, REACHED, moved(2.1, "half_open", "open", "probe_failed", n=1)],
            "open_count 1 after 1, with another retry_at",
        ),
        (
            [
                OPENED,
                REACHED,
                moved(2.1, "half_open", "open", "probe_failed", retry_at=6),
                caused(2.1, "RPC_HTTP_STATUS"),
            ],
            "it kept its retry_at after a probe that ended with RPC_HTTP_STATUS: there was a connection",
        ),
        ([CLOSED, moved(1, "closed", "open", "failure_threshold", n=3)], "open_count 3 after 0"),
        ([CLOSED, moved(1, "closed", "open", "failure_threshold", retry_at=1)], f"open from {time(1)} to {time(1)}"),
        (
            [
                *(OPENED, moved(2, "open", "half_open", "poke"), moved(2.1, "half_open", "open", "probe_failed", n=2)),
                moved(11.9, "open", "half_open", "poke"),
            ],
            "poked twice within 9.900 s",
        ),
        (
            [
                moved(1, "closed", "open", "force_open", retry_at=None, forced=True),
                moved(2, "open", "half_open", "reachable"),
            ],
            "open → half_open (reachable), although an admin had forced it open",
        ),
        (
            [CLOSED, moved(1, "closed", "closed", "force_closed")],
            "closed → closed (force_closed), forced: False",
        ),
    ],
)
def test_what_it_may_not_do_is_found(frames: list[Frame], wrong: str) -> None:
    assert found(*frames) == [wrong]


def flapping(third_reached_at: float) -> list[Frame]:
    """A backend that comes and goes: the breaker opens for the third time at 10 s."""
    return [
        OPENED,
        REACHED,
        moved(2, "half_open", "closed", "probe_succeeded"),
        moved(3, "closed", "open", "failure_threshold", n=2),
        moved(3.5, "open", "half_open", "reachable", n=2),
        moved(3.5, "half_open", "closed", "probe_succeeded", n=2),
        moved(10, "closed", "open", "failure_threshold", n=3),
        moved(third_reached_at, "open", "half_open", "reachable", n=3),
    ]


def test_a_backend_that_comes_and_goes_is_probed_at_a_bounded_rate() -> None:
    assert found(*flapping(11)) == []
    assert found(*flapping(10.9)) == ["half-open because it can be reached, 0.900 s after opening 3"]
    assert [flapping_s(n, open_max_s=15.0) for n in (1, 2, 3, 6, 2000)] == [0, 1, 2, 15, 15]


def test_moves_of_other_breakers_say_nothing() -> None:
    assert missteps([OPENED, DUE, OPENED], types=(), breaker="disks", open_max_s=15.0) == []
