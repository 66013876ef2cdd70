"""Which keys of a source go with the protocol of its backend: how it is asked, and how its answer is read.

A key that would have no effect is refused: whoever wrote it expects one.
"""

from collections.abc import Iterator

from tidegate.config import formats
from tidegate.config.backends import BackendConfig, SourceConfig
from tidegate.config.reader import Mistake, expectation, quoted
from tidegate.text_pattern import compiled

HTTP_KEYS = ("path", "body", "verb", "headers", "success_statuses", "format")
"""Keys that say how HTTP is spoken. JSON-RPC and plug-ins say that themselves."""

_OF_FORMATS = {"match": "prometheus", "delimiter": "csv", "pattern": "text"}
"""Keys that belong to one format."""

_LISTS = ("prometheus", "csv")
"""Formats whose answers are lists."""

_INSTEAD = ' (for plain HTTP set protocol = "http"; JSON-RPC takes method and params)'

_UNTOUCHED = SourceConfig(backend="any")
"""A source in which every key but one has its default."""


def of_format(source: SourceConfig) -> Iterator[Mistake]:
    """Yield what is wrong with the keys about the format of an answer."""
    for key, format_ in _OF_FORMATS.items():
        if source.format != format_ and getattr(source, key) != getattr(_UNTOUCHED, key):
            yield Mistake((key,), f'no such key, unless format = "{format_}"', "one")
    if source.format in _LISTS and source.key is None and source.select == "" and source.items in ("", ("",)):
        expected = f'a value, because items of format = "{source.format}" are a list, which has no names'
        yield Mistake(("key",), expected, "nothing")
    if source.format == "text":
        expected = r"a regular expression with named groups, such as (?P<name>\d+)"
        try:
            if source.pattern is None:
                yield Mistake(("pattern",), f'{expected}, because format is "text"', "nothing")
            else:
                compiled(source.pattern)
        except ValueError as exc:
            yield Mistake(("pattern",), expected, str(exc))


def of_asking(source: SourceConfig, backend: BackendConfig) -> Iterator[Mistake]:
    """Yield the keys of a source of `backend` that do not go with its protocol."""
    because = f'because backend {quoted(source.backend)} has protocol = "{backend.protocol}"'
    if backend.protocol == "http" and source.params:
        yield Mistake(("params",), f"none, {because} (put a query into path)", "some")
    if backend.protocol == "http" and source.method is not None and not formats.is_path(source.method):
        yield Mistake(("method",), f"{expectation(formats.RequestPath)}, {because}", quoted(source.method))
    if backend.protocol != "http":
        for key in HTTP_KEYS:
            if getattr(source, key) != getattr(_UNTOUCHED, key):
                instead = _INSTEAD if key in {"path", "body"} else ""
                yield Mistake((key,), f"no such key, {because}{instead}", "one")
