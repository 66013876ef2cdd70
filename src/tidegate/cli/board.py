"""The state that the live table shows: the newest event of each type and key, and the connection. Pure.

`table` draws it.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tidegate.client import Connected, Disconnected, Event, Gap, Item
from tidegate.errors import ErrorCode

NOTES = 4
"""How many of the latest notices are shown: enough to see what just happened, and few lines of a small terminal."""

SHOWN_ITEMS = 3
"""The longest list that is shown item by item. Of a longer list only the length is shown."""

BREAKER = "circuit_breaker.state"


class Row(msgspec.Struct, kw_only=True):
    """One event type or key, or one breaker.

    `since` is when `state` began, `updated_at` when the last event came, and `why` the reason for a bad state.
    `retry_at` is when the backend is asked again; behind an open breaker at the latest (`may_be_sooner`).
    """

    name: str
    state: str
    since: datetime
    updated_at: datetime
    as_of: datetime | None = None
    why: str = ""
    retry_at: datetime | None = None
    may_be_sooner: bool = False
    data: str = ""


class BoardNote(msgspec.Struct, frozen=True):
    """A notice: an error, a notification or a gap."""

    at: datetime
    text: str
    is_bad: bool


class Board:
    """The state of a stream. Pass every item to `apply`, in order. `rows` are in the order of first appearance."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows: dict[tuple[str, str], Row] = {}
        self.notes: deque[BoardNote] = deque(maxlen=NOTES)
        self.events = 0
        self.connected: Connected | None = None
        self.lost: Disconnected | None = None
        self.state_since: datetime | None = None
        self.retry_at: datetime | None = None
        self.clients: int | None = None

    def apply(self, item: Item, *, now: datetime) -> None:
        """Update the board with `item`, which was received at `now`."""
        match item:
            case Event():
                self.events += 1
                self._event(item)
            case Gap():
                counts = ", ".join(f"{count} of {name}" for name, count in item.skipped.items())
                text = f"events are missing ({item.reason}){': ' if counts else ''}{counts}"
                self.notes.append(BoardNote(item.timestamp, text, is_bad=True))
            case Connected():
                self.connected, self.lost, self.state_since = item, None, now
                # Current values follow as snapshots. A value that is gone has no snapshot, so drop all rows first.
                if not item.resumed:
                    self.rows.clear()
            case Disconnected():
                if self.lost is None:
                    self.state_since = now
                self.connected, self.lost = None, item
                self.retry_at = now + timedelta(seconds=item.retry_in_s)

    def _event(self, event: Event) -> None:
        data = event.data if isinstance(event.data, dict) else {}
        match event.type:
            case "heartbeat":
                self.clients = data.get("clients")
            case "circuit_breaker.state":
                self._breaker(event, data)
            case "source.freshness":
                self._freshness(event, data)
            case "rpc_error":
                text = f"{data.get('source')}: {data.get('error_code')}, {data.get('message')}"
                self.notes.append(BoardNote(event.timestamp, text, is_bad=True))
            case "notification":
                is_bad = data.get("level") != "info"
                self.notes.append(BoardNote(event.timestamp, str(data.get("message")), is_bad=is_bad))
            case _:
                self._value(event)

    def _breaker(self, event: Event, data: Mapping[str, Any]) -> None:
        retry_at = data.get("retry_at")
        self.rows[BREAKER, event.key or ""] = Row(
            name=f"breaker {event.key}",
            state=str(data.get("state")),
            since=event.timestamp,
            updated_at=event.timestamp,
            why="" if data.get("state") == "closed" else str(data.get("reason") or ""),
            retry_at=datetime.fromisoformat(retry_at) if isinstance(retry_at, str) else None,
            may_be_sooner=True,
            data="forced by an operator" if data.get("forced") else "",
        )

    def _freshness(self, event: Event, data: Mapping[str, Any]) -> None:
        """Show a source that has no value yet. Events with a value carry their freshness themselves."""
        name = str(data.get("type"))
        if data.get("as_of") is None and (name, "") not in self.rows:
            why = str(data.get("error_code") or "")
            at = event.timestamp
            self.rows[name, ""] = Row(name=name, state="no value", since=at, updated_at=at, why=why)

    def _value(self, event: Event) -> None:
        place = (event.type, event.key or "")
        if event.key is not None:
            self.rows.pop((event.type, ""), None)
        if event.gone:
            self.rows.pop(place, None)
            return
        known = self.rows.get(place)
        state = _state(event)
        self.rows[place] = Row(
            name=event.type if event.key is None else f"{event.type} {event.key}",
            state=state,
            since=known.since if known is not None and known.state == state else event.timestamp,
            updated_at=event.timestamp,
            as_of=event.as_of,
            why=" ← ".join(code for code in (event.error_code, event.cause) if code),
            retry_at=event.retry_at,
            may_be_sooner=event.error_code == ErrorCode.CIRCUIT_BREAKER_OPEN,
            data=summary(_beside_key(event)),
        )


def summary(data: Any) -> str:
    """Return `data` on one line, as ``name=value`` pairs. Long lists are shown by length; nulls are left out."""
    return "  ".join(f"{name}={text}" if name else text for name, text in _leaves("", data))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case dict() if value:
            for inner, item in value.items():
                if item is not None:
                    yield from _leaves(f"{name}.{inner}" if name else inner, item)
        case list() if 0 < len(value) <= SHOWN_ITEMS:
            for number, item in enumerate(value):
                yield from _leaves(f"{name}[{number}]", item)
        case _:
            yield name, _leaf(name, value)


def _leaf(name: str, value: Any) -> str:
    match value:
        case str():
            return value
        case list():
            return f"[{len(value)}]"
        case bool() | None | dict():
            return msgspec.json.encode(value).decode()
        case int() if name.endswith("_bytes"):
            return _size(value)
        case int() | float() if name.endswith("_bytes_per_s"):
            return f"{_size(value)}/s"
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def _beside_key(event: Event) -> Any:
    """Return an event's data without the field that holds its key, which is in the row's name already."""
    if event.key is None or not isinstance(event.data, dict):
        return event.data
    return {name: value for name, value in event.data.items() if value != event.key}


def _state(event: Event) -> str:
    if event.expired:
        return "expired"
    return {True: "stale", False: "fresh", None: "event"}[event.stale]
