"""Logging with structlog to standard error: readable text on a terminal, elsewhere one JSON object per line.

Records that libraries log with the standard library's logging are included, from level WARNING on. Credentials are
masked in every line.
"""

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, Literal

import structlog

from tidegate.core.masking import mask_fields
from tidegate.printable import printable, printable_json

Level = Literal["debug", "info", "warning", "error"]

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
        return [structlog.processors.JSONRenderer(default=str, ensure_ascii=False), _printable_line]
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
