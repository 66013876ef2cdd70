"""Logging with structlog to standard error: readable text on a terminal, elsewhere one JSON object per line.

Records that libraries log with the standard library's logging are included, from level WARNING on. Credentials are
masked in every line.
"""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, MutableMapping
from contextlib import suppress
from typing import Any, Literal

import structlog

from tidegate.core.log_events import EVERY_S
from tidegate.core.masking import mask_fields
from tidegate.printable import printable, printable_json

Level = Literal["debug", "info", "warning", "error"]

WHOLE = 3
"""How many lines about the same thing are written in a minute."""

_LIMITED = frozenset({"warning", "error", "critical"})

_ABOUT = ("backend", "type", "part", "lane", "breaker", "plugin", "setting", "problem")
"""The fields that tell what a line is about. Lines that differ in one of these are not the same."""

_ALL = frozenset({"operator command"})
"""The events of which every line is written: who did what."""

_WINDOWS = 1000
"""How many things are remembered."""

_MULTILINE = frozenset({"exception", "stack"})


def configure(level: Level = "info", *, readable: bool | None = None) -> None:
    """Set up logging for the whole process. By default, `readable` is whether standard error is a terminal.

    Each line is written to the current `sys.stderr`, so that replacing it (as a live table does) redirects the log.
    """
    readable = sys.stderr.isatty() if readable is None else readable
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            Repeated(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            without_credentials,
            *_renderers(readable),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=StderrLogger,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=max(number, logging.WARNING), force=True)
    logging.captureWarnings(capture=True)


class Repeated:
    """A structlog processor that leaves out warnings and errors that come again and again.

    What is known to repeat is limited where it is logged, and says its end (`tidegate.runtime.limited_log`). This is
    for all else, such as what libraries say. In a minute that begins with a line, `WHOLE` lines of an event about the
    same thing are written. The next one after that minute says how many were `suppressed`.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event["level"] not in _LIMITED or event["event"] in _ALL or "suppressed" in event:
            return event
        about = (event["event"], *(str(event.get(name)) for name in _ABOUT))
        now = self._now()
        window = self._windows.pop(about, None)
        if window is None or now >= window.ends:
            suppressed = 0 if window is None else window.suppressed
            if suppressed:
                event["suppressed"] = suppressed
            window = _Window(now + EVERY_S)
        self._windows[about] = window
        if len(self._windows) > _WINDOWS:
            self._windows.popitem(last=False)
        window.lines += 1
        if window.lines > WHOLE:
            window.suppressed += 1
            raise structlog.DropEvent
        return event


class _Window:
    """A minute of lines about one thing."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.lines = self.suppressed = 0


class StderrLogger:
    """Writes formatted lines to the current `sys.stderr`. If writing fails, the line is dropped: it never raises."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    log = debug = info = warning = error = critical = exception = msg


def without_credentials(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that masks credentials at any depth, found by the names of values and by their text."""
    event.update(mask_fields(event))
    return event


def _renderers(readable: bool) -> list[Callable[..., Any]]:
    if not readable:
        return [
            _what_happened_first,
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
            _printable_line,
        ]
    return [
        _printable,
        structlog.dev.ConsoleRenderer(pad_event_to=0, exception_formatter=structlog.dev.plain_traceback),
    ]


def _printable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that escapes control characters: log lines quote text from clients and backends."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, keep="\t\n" if name in _MULTILINE else "\t")
    return event


def _what_happened_first(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor for people who read lines of JSON: when, how bad and what come before all else."""
    return {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event} | dict(event)


def _printable_line(_: object, __: str, line: str) -> str:
    return printable_json(line)


class _ToStructlog(logging.Handler):
    """Passes the records of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # a library's format string does not match its arguments
            message = str(record.msg)
        structlog.get_logger().log(record.levelno, message, logger=record.name, exc_info=record.exc_info)
