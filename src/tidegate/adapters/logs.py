"""Logs through structlog: readable on a terminal, one JSON object per line elsewhere, on standard error.

What libraries write to the standard library's logging comes the same way, from WARNING on. Credentials are taken out
of every line, whoever wrote it.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]

MASK = "***"

_SECRET_NAME = re.compile(r"authorization|cookie|token|secret|passw|credential|api[-_]?key", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"(token=|\bBearer\s+|\bBasic\s+)[^&#\s\"']+", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/?#\s@]*(?=@)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_MULTILINE = frozenset({"exception", "stack"})


def configure(level: Level = "info", *, readable: bool | None = None) -> None:
    """Set up logging for the whole process. `readable` is by default whether standard error is a terminal.

    Standard error is looked up at each line, so that whoever replaces it gets the lines.
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
    """Writes finished lines to what standard error is now. A line that cannot be written is dropped, never raised."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    log = debug = info = warning = error = critical = exception = msg


def without_credentials(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that masks credentials, by the names of values and in their text, at any depth."""
    for name, value in event.items():
        event[name] = MASK if _SECRET_NAME.search(name) and isinstance(value, str | bytes) else _masked(value)
    return event


def _masked(value: Any) -> Any:
    match value:
        case str():
            return _USERINFO.sub(MASK, _SECRET_TEXT.sub(rf"\g<1>{MASK}", value))
        case Mapping():
            return without_credentials(None, "", {str(name): item for name, item in value.items()})
        case list() | tuple() | set() | frozenset():
            return [_masked(item) for item in value]
        case bool() | int() | float() | None:
            return value
        case _:
            return _masked(str(value))


def _renderers(readable: bool) -> list[Callable[..., Any]]:
    if not readable:
        return [structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
    return [
        _printable,
        structlog.dev.ConsoleRenderer(pad_event_to=0, exception_formatter=structlog.dev.plain_traceback),
    ]


def _printable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Nothing that others sent us may steer the terminal."""
    for name, value in event.items():
        if isinstance(value, str) and name not in _MULTILINE:
            event[name] = _CONTROL.sub(lambda control: f"\\x{ord(control[0]):02x}", value)
    return event


class _ToStructlog(logging.Handler):
    """Hands the records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        structlog.get_logger().log(record.levelno, message, logger=record.name, exc_info=record.exc_info)
