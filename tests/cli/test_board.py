import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from rich.console import Console

from tidegate.cli.board import NOTES, Board, summary
from tidegate.cli.table import render
from tidegate.client import Connected, Disconnected, Event, Gap
from tidegate.client.items import decode_message, event_of

NOW = datetime(2026, 11, 22, 21, 40, 10, tzinfo=UTC)


def at(second: int) -> str:
    return f"2026-11-22T21:40:{second:02}.000Z"


def event(kind: str, data: Any = None, *, second: int = 0, **fields: Any) -> Event:
    raw = json.dumps({"type": kind, "timestamp": at(second), "seq": 1, **fields, "data": data}).encode()
    return event_of(decode_message(raw), raw)


def value(*, stale: bool, second: int, **fields: Any) -> Event:
    return event("system.status", {"cpu": 1.5}, second=second, stale=stale, as_of=at(1), source="engine", **fields)


CONNECTED = Connected(resumed=False, client_id="c", server="tidegate/1", subscriptions=(), heartbeat_interval_s=10)
GAP = Gap(reason="slow_consumer", requested=None, skipped={"a": 2, "b": 1}, timestamp=NOW, raw=b"")


def board(*items: Event | Gap | Connected | Disconnected) -> Board:
    it = Board("http://h")
    for item in items:
        it.apply(item, now=NOW)
    return it


def drawn(it: Board, *, now: datetime = NOW, width: int = 200, height: int = 24, hint: str = "") -> str:
    console = Console(width=width, height=height, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - closed with it
    with console.file:
        console.print(render(it, now=now, position="e:1", hint=hint))
    return console.export_text()


def test_a_value_is_fresh_since_it_became_so() -> None:
    [row] = board(value(stale=False, second=1), value(stale=False, second=3)).rows.values()
    assert (row.name, row.state, row.since.second, row.data) == ("system.status", "fresh", 1, "cpu=1.5")


def test_a_stale_value_says_since_when_and_why() -> None:
    [row] = board(
        value(stale=False, second=1),
        value(stale=True, second=3, error_code="RPC_TIMEOUT"),
        value(stale=True, second=5, error_code="CIRCUIT_BREAKER_OPEN", cause="RPC_TIMEOUT", retry_at=at(20)),
    ).rows.values()
    assert (row.state, row.since.second, row.why) == ("stale", 3, "CIRCUIT_BREAKER_OPEN ← RPC_TIMEOUT")
    assert row.retry_at == NOW + timedelta(seconds=10)


def test_a_value_that_is_too_old_is_expired() -> None:
    [row] = board(event("a", None, stale=True, expired=True)).rows.values()
    assert row.state == "expired"


def test_what_was_published_has_no_freshness() -> None:
    [row] = board(event("a", 5)).rows.values()
    assert (row.state, row.data) == ("event", "5")


def test_keys_have_rows_of_their_own_until_they_are_gone() -> None:
    it = board(event("a", 1, key="x"), event("a", 2, key="y"), event("a", None, key="x", gone=True))
    assert [row.name for row in it.rows.values()] == ["a y"]


def test_a_key_is_not_said_twice() -> None:
    [row] = board(event("a", {"id": "x", "n": 1}, key="x")).rows.values()
    assert (row.name, row.data) == ("a x", "n=1")


def test_reasons_take_no_room_where_there_are_none() -> None:
    it = board(event("a", 1))
    assert "Why" not in drawn(it)
    it.apply(value(stale=True, second=3, error_code="RPC_TIMEOUT"), now=NOW)
    assert "Why" in drawn(it)


def test_a_source_without_a_value_is_shown_until_it_has_one() -> None:
    unknown = event("source.freshness", {"type": "system.status", "as_of": None, "error_code": "RPC_DISCONNECT"})
    it = board(unknown)
    [row] = it.rows.values()
    assert (row.name, row.state, row.why) == ("system.status", "no value", "RPC_DISCONNECT")
    it.apply(value(stale=False, second=3), now=NOW)
    it.apply(unknown, now=NOW)
    [row] = it.rows.values()
    assert row.state == "fresh"


def test_a_keyed_value_takes_the_place_of_no_value() -> None:
    unknown = event("source.freshness", {"type": "a", "as_of": None, "error_code": None})
    assert [row.name for row in board(unknown, event("a", 1, key="x")).rows.values()] == ["a x"]


def test_a_breaker_is_a_row() -> None:
    data = {"state": "open", "reason": "5 failures", "retry_at": at(15), "forced": False}
    [row] = board(event("circuit_breaker.state", data, key="engine", second=2)).rows.values()
    assert (row.name, row.state, row.since.second, row.why) == ("breaker engine", "open", 2, "5 failures")
    assert row.retry_at == NOW + timedelta(seconds=5)
    [row] = board(event("circuit_breaker.state", {"state": "closed", "reason": "start"}, key="e")).rows.values()
    assert row.why == ""


def test_behind_an_open_breaker_it_may_be_asked_sooner_and_in_a_pause_not() -> None:
    opening = {"state": "open", "reason": "failure_threshold", "retry_at": at(25)}
    by_then = "asked again within 15 s, sooner if it can be reached"
    behind = value(stale=True, second=3, error_code="CIRCUIT_BREAKER_OPEN", cause="RPC_DISCONNECT", retry_at=at(25))
    assert f"failure_threshold, {by_then}" in drawn(board(event("circuit_breaker.state", opening, key="engine")))
    assert f"CIRCUIT_BREAKER_OPEN ← RPC_DISCONNECT, {by_then}" in drawn(board(behind))
    paused = drawn(board(value(stale=True, second=3, error_code="RPC_HTTP_STATUS", retry_at=at(25))))
    assert "RPC_HTTP_STATUS, asked again in 15 s" in paused
    assert "sooner" not in paused


def test_errors_notices_and_gaps_are_notes_and_the_newest_stay() -> None:
    error = event("rpc_error", {"source": "a", "error_code": "RPC_TIMEOUT", "message": "no answer"})
    it = board(error, event("notification", {"level": "info", "message": "hello"}), GAP)
    assert [(note.text, note.is_bad) for note in it.notes] == [
        ("a: RPC_TIMEOUT, no answer", True),
        ("hello", False),
        ("events are missing (slow_consumer): 2 of a, 1 of b", True),
    ]
    assert not it.rows
    assert len(board(*[error] * 9).notes) == NOTES


def test_the_connection_has_a_state_since_when_and_why() -> None:
    it = board(CONNECTED)
    assert "connected to tidegate/1" in drawn(it)
    it.apply(Disconnected(reason="draining", retry_in_s=4.0), now=NOW + timedelta(seconds=1))
    it.apply(Disconnected(reason="connection refused", retry_in_s=4.0), now=NOW + timedelta(seconds=3))
    text = drawn(it, now=NOW + timedelta(seconds=5))
    assert f"disconnected since {(NOW + timedelta(seconds=1)).astimezone():%H:%M:%S}" in text
    assert "connection refused; next try in 2 s" in text
    assert "connecting" in drawn(it, now=NOW + timedelta(seconds=60))
    it.apply(CONNECTED, now=NOW)
    assert "disconnected" not in drawn(it)


def test_without_a_connection_no_state_is_claimed() -> None:
    it = board(CONNECTED, value(stale=False, second=1), Disconnected(reason="x", retry_in_s=1.0))
    assert "fresh?" in drawn(it)


def test_the_picture_shows_it_all() -> None:
    it = board(
        CONNECTED,
        value(stale=True, second=3, error_code="RPC_TIMEOUT", retry_at=at(14)),
        event("heartbeat", {"clients": 7}),
        GAP,
    )
    text = drawn(it)
    for part in (
        "system.status",
        "stale",
        "9 s ago",
        "RPC_TIMEOUT, asked again in 4 s",
        "cpu=1.5",
        "clients 7",
        "e:1",
        "2 of a",
    ):
        assert part in text


@pytest.mark.parametrize("height", [12, 14, 24])
def test_data_takes_what_room_there_is_in_equal_shares(height: int) -> None:
    data = {f"name{n}": n for n in range(30)}
    lines = drawn(board(CONNECTED, event("a", data), event("b", data), GAP), width=60, height=height, hint="bye")
    a, b = (next(i for i, line in enumerate(lines.splitlines()) if line.startswith(name)) for name in "ab")
    rows = lines.splitlines()
    assert len(rows) <= height
    assert b - a == min(7, (height - 6) // 2 + 1)
    assert ("name29=29" in lines) == (height == 24)
    assert rows[b - 1].endswith("…") == (height < 24)
    assert rows[-1] == "bye"


def test_where_there_is_room_for_few_those_are_shown_that_changed_last() -> None:
    it = board(CONNECTED, *[event("a", {"x": n}, key=str(n), second=n) for n in range(20)])
    it.apply(event("a", {"x": 70}, key="7", second=30), now=NOW)
    it.apply(event("circuit_breaker.state", {"state": "open"}, key="engine", second=25), now=NOW)
    lines = drawn(it, height=11).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["a", "x=70", "a", "x=18", "a", "x=19", "breaker", "…"]
    assert lines[-1] == "… and 17 more that changed before these"
    assert len(drawn(it, height=44).splitlines()) == 43
    assert len(drawn(it, height=43).splitlines()) == 43
    assert "more" not in drawn(it, height=43)
    assert len(drawn(it, height=42).splitlines()) <= 42
    assert drawn(it, height=1).count("more") == 1


def test_one_that_has_room_for_its_data_has_it_though_others_have_none() -> None:
    it = board(*[event("a", {f"name{n}": n for n in range(60)}, key=str(n), second=n) for n in range(9)])
    lines = drawn(it, height=7, width=60).splitlines()
    assert [line.startswith("a 8") for line in lines].count(True) == 1
    assert len(lines) <= 7


@pytest.mark.parametrize(("age_s", "text"), [(5, "5 s ago"), (600, "10 min ago"), (36000, "10 h ago"), (-9, "0 s ago")])
def test_ages_are_told_in_fitting_units(age_s: float, text: str) -> None:
    it = board(event("a", 1, stale=False, as_of=at(0)))
    assert text in drawn(it, now=datetime.fromisoformat(at(0)) + timedelta(seconds=age_s))


def test_nothing_that_was_sent_steers_the_terminal() -> None:
    assert "\x1b" not in drawn(board(event("a", {"x\x1b[2J": "\x1b]0;t\x07\x9b"}, key="\x1b[1m")))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"a": 1, "b": {"c": True, "d": None}}, "a=1  b.c=true"),
        ({"free_bytes": 24491274240, "size_bytes": 12}, "free_bytes=24.5 GB  size_bytes=12 B"),
        ({"x_bytes_per_s": 41_200_000, "y_bytes_per_s": 0.5}, "x_bytes_per_s=41.2 MB/s  y_bytes_per_s=0.5 B/s"),
        ({"volumes": [{"id": "sda", "used": 0.123456789}]}, "volumes[0].id=sda  volumes[0].used=0.123457"),
        ({"many": [1, 2, 3, 4], "none": [], "empty": {}}, "many=[4]  none=[0]  empty={}"),
        ("text", "text"),
        (2**60, str(2**60)),
        ([1, 2], "[0]=1  [1]=2"),
        (None, "null"),
    ],
)
def test_data_fits_on_a_line(data: Any, text: str) -> None:
    assert summary(data) == text


def test_forgets_what_went_while_it_was_away_unless_it_was_resumed() -> None:
    lost = Disconnected(reason="closed", retry_in_s=1.0)
    job, status = event("app.job", {"id": 1}, key="1"), value(stale=False, second=1)
    resumed = msgspec.structs.replace(CONNECTED, resumed=True)
    assert list(board(CONNECTED, job, status, lost, resumed).rows) == [("app.job", "1"), ("system.status", "")]
    assert list(board(CONNECTED, job, status, lost).rows) == [("app.job", "1"), ("system.status", "")]
    assert list(board(CONNECTED, job, status, lost, CONNECTED, status).rows) == [("system.status", "")]
