"""Draws a `Board` with rich."""

import re
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.cli.board import Board, Row

_STYLES = {
    "fresh": "green",
    "closed": "green",
    "stale": "yellow",
    "half_open": "yellow",
    "expired": "red",
    "open": "red",
    "no value": "red",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def render(board: Board, *, now: datetime, position: str | None) -> RenderableType:
    """`board` as it is at `now`; `position` is where the stream is."""
    notes = [Text(f"{_clock(note.at)} {clean(note.text)}", "yellow" if note.is_bad else "dim") for note in board.notes]
    return Group(_head(board, now=now, position=position), _rows(board, now=now), *notes)


def _head(board: Board, *, now: datetime, position: str | None) -> Text:
    head = Text(no_wrap=True, overflow="ellipsis")
    if board.lost is not None:
        wait_s = 0.0 if board.retry_at is None else max(0.0, (board.retry_at - now).total_seconds())
        tried = f"next try in {wait_s:.0f} s" if wait_s else "connecting"
        head.append(
            f"● disconnected since {_clock(board.state_since)}: {clean(board.lost.reason)}; {tried}", "bold red"
        )
    elif board.connected is not None:
        head.append(f"● connected to {clean(board.connected.server)}", "bold green")
    else:
        head.append("● connecting", "bold yellow")
    clients = "" if board.clients is None else f"  clients {board.clients}"
    head.append(f"  {clean(board.url)}  events {board.events}{clients}  position {position or 'unknown'}", "dim")
    return head


def _rows(board: Board, *, now: datetime) -> Table:
    table = Table(expand=True, pad_edge=False, box=None, header_style="bold")
    whys = [_why(row, now) for row in board.rows.values()]
    for heading in ("Event", "State", "Since", "As of", *(["Why"] if any(whys) else [])):
        table.add_column(heading, no_wrap=True)
    table.add_column("Data", no_wrap=True, overflow="ellipsis", ratio=1)
    for row, why in zip(board.rows.values(), whys, strict=True):
        style = _STYLES.get(row.state, "cyan") if board.lost is None else "dim"
        table.add_row(
            clean(row.name),
            Text(clean(row.state) if board.lost is None else f"{clean(row.state)}?", style),
            _clock(row.since),
            _age(row.as_of, now),
            *([Text(why, style)] if any(whys) else []),
            Text(clean(row.data)),
        )
    return table


def _why(row: Row, now: datetime) -> str:
    if row.retry_at is None or row.retry_at <= now:
        return clean(row.why)
    return f"{clean(row.why)}, retry in {(row.retry_at - now).total_seconds():.0f} s".removeprefix(", ")


def _age(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    seconds = max(0.0, (now - moment).total_seconds())
    if seconds < 100:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 6000 else f"{seconds / 3600:.0f} h ago"


def _clock(moment: datetime | None) -> str:
    """The local time of day."""
    return "" if moment is None else f"{moment.astimezone():%H:%M:%S}"


def clean(text: str) -> str:
    """Nothing that a server sent may steer the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
