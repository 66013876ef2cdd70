"""Draws a `Board` with rich."""

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from tidegate.cli.board import Board, Row
from tidegate.printable import printable

_STYLES = {
    "fresh": "green",
    "closed": "green",
    "stale": "yellow",
    "half_open": "yellow",
    "expired": "red",
    "open": "red",
    "no value": "red",
}
_ONE_LINE: Any = {"no_wrap": True, "overflow": "ellipsis"}
_INDENT = "  "


def render(board: Board, *, now: datetime, position: str | None, hint: str = "") -> RenderableType:
    """Draw `board` as of `now`, as far as it fits on the terminal. `position` is the position of the stream.

    `hint` is the last line. It is short, so that a key echoed by the terminal does not overwrite other text.
    """
    notes = [
        Text(f"{_clock(note.at)} {printable(note.text)}", "yellow" if note.is_bad else "dim", **_ONE_LINE)
        for note in board.notes
    ]
    below = [*notes, Text(hint, "dim")] if hint else notes
    return Group(_head(board, now=now, position=position), _Rows(board, now, lines_elsewhere=1 + len(below)), *below)


def _head(board: Board, *, now: datetime, position: str | None) -> Text:
    head = Text(**_ONE_LINE)
    if board.lost is not None:
        wait_s = 0.0 if board.retry_at is None else max(0.0, (board.retry_at - now).total_seconds())
        tried = f"next try in {wait_s:.0f} s" if wait_s else "connecting"
        head.append(
            f"● disconnected since {_clock(board.state_since)}: {printable(board.lost.reason)}; {tried}", "bold red"
        )
    elif board.connected is not None:
        head.append(f"● connected to {printable(board.connected.server)}", "bold green")
    else:
        head.append("● connecting", "bold yellow")
    clients = "" if board.clients is None else f"  clients {board.clients}"
    head.append(printable(f"  {board.url}  events {board.events}{clients}  position {position or 'unknown'}"), "dim")
    return head


class _Rows:
    """A heading, and for each row one line of state and then its data. The rows share the free lines equally.

    If not all rows fit, the most recently updated ones are shown, and the number of the others. `lines_elsewhere` is
    the number of lines that are drawn above and below.
    """

    def __init__(self, board: Board, now: datetime, *, lines_elsewhere: int) -> None:
        self._board = board
        self._now = now
        self._lines_elsewhere = lines_elsewhere

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self._shown(console.height)
        width = max((len(printable(row.name)) for row in rows), default=0)
        why = "Why" if any(_why(row, self._now) for row in rows) else ""
        yield Text(_columns("Event", width, "State", "Since", "As of", why), "bold", **_ONE_LINE)
        share = self._lines_per_data(rows, console.height)
        for row in rows:
            yield self._about(row, width)
            data = Text(printable(row.data), "dim").wrap(console, options.max_width - len(_INDENT))
            if len(data) > share and share:
                data[share - 1].append(" …")
            for line in data[:share] if row.data else ():
                yield Text(_INDENT, **_ONE_LINE) + line
        if missing := len(self._board.rows) - len(rows):
            yield Text(f"… and {missing} more that changed before these", "dim", **_ONE_LINE)

    def _shown(self, height: int) -> list[Row]:
        rows = list(self._board.rows.values())
        room = height - self._lines_elsewhere - 1
        if sum(map(_least_lines, rows)) <= room:
            return rows
        newest = sorted(range(len(rows)), key=lambda place: rows[place].updated_at, reverse=True)
        heights = accumulate(_least_lines(rows[place]) for place in newest)
        fitting = [place for place, height in zip(newest, heights, strict=True) if height < room]
        return [rows[place] for place in sorted(fitting)]

    def _lines_per_data(self, rows: Sequence[Row], height: int) -> int:
        """Return how many lines each row's data may take: at least one, even if they do not all fit."""
        taken = self._lines_elsewhere + 1 + len(rows) + (len(rows) < len(self._board.rows))
        return max(1, (height - taken) // max(1, sum(bool(row.data) for row in rows)))

    def _about(self, row: Row, width: int) -> Text:
        is_known = self._board.lost is None
        style = _STYLES.get(row.state, "cyan") if is_known else "dim"
        state = printable(row.state) if is_known else f"{printable(row.state)}?"
        text = _columns(
            printable(row.name), width, state, _clock(row.since), _age(row.as_of, self._now), _why(row, self._now)
        )
        line = Text(text, **_ONE_LINE)
        line.stylize(style, start=width)
        return line


def _least_lines(row: Row) -> int:
    return 2 if row.data else 1


def _columns(name: str, width: int, state: str, since: str, age: str, why: str) -> str:
    return f"{name:<{width}}  {state:<9}  {since:<8}  {age:<10}  {why}"


def _why(row: Row, now: datetime) -> str:
    why = printable(row.why)
    if row.retry_at is None or row.retry_at <= now:
        return why
    wait = f"{(row.retry_at - now).total_seconds():.0f} s"
    asked = f"within {wait}, sooner if it can be reached" if row.may_be_sooner else f"in {wait}"
    return f"{why}, asked again {asked}".removeprefix(", ")


def _age(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    seconds = max(0.0, (now - moment).total_seconds())
    if seconds < 100:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 6000 else f"{seconds / 3600:.0f} h ago"


def _clock(moment: datetime | None) -> str:
    """Return the local time of day."""
    return "" if moment is None else f"{moment.astimezone():%H:%M:%S}"
