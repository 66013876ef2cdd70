"""Reads metrics in Prometheus' text format: a list of objects with `name`, `labels` and `value`.

https://prometheus.io/docs/instrumenting/exposition_formats/ says how they are written. prometheus_client parses the
samples that are wanted. It takes 20 µs for each, and an exporter may send thousands, so of the other lines only the
form is checked. They all are, so that a page of something else is not taken for one without the wanted samples.
"""

import math
import re
from collections.abc import Collection, Generator

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tidegate.errors import InvalidResponse
from tidegate.outbound.backends.formats.written import JsonList, JsonObject, Written, encoded, excerpt, is_number

LINE_BYTES = 16_384
"""Longest line. The parser takes up to 20 ms for the worst of this length."""

_STEP = 500
"""How much work is done between two yields. To look at a line is 1; `_work` says what it is to parse one."""

_LINE = re.compile(rb"([^\n]*)\n?")
_NO_SAMPLE = re.compile(rb"[ \t\r]*(?:#.*)?")
_SAMPLE = re.compile(
    rb"""[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)          # the name
         (?: [ \t]*\{.*\}[ \t]* | [ \t]+ )         # labels
         [-+]?(?: [0-9.] | [Nn]a[Nn] | [Ii]nf )[^ \t]*
         (?: [ \t].* )?                            # the time""",
    re.VERBOSE,
)
_QUOTED = re.compile(rb"[ \t]*\{")
"""A sample whose name is in quotes, between the braces of the labels."""


def samples(written: Written, match: Collection[str]) -> Generator[None, None, msgspec.Raw]:
    """Return the samples whose names are in `match`, or all if that is empty. See `formats.reading`."""
    found = JsonList(written.limit_bytes)
    wanted = frozenset(name.encode() for name in match)
    is_empty, work = True, 0
    for each in _LINE.finditer(written.body):
        line = each[1]
        work += 1
        is_empty = is_empty and not line
        if _is_to_be_parsed(line, wanted):
            sample = _parsed(line)
            work += _work(line)
            if not match or sample.name in match:
                found.add(_json(sample, line))
        if work >= _STEP:
            work = 0
            yield
    if is_empty:
        raise InvalidResponse("expected metrics in Prometheus' text format, got nothing at all")
    return found.json()


def _is_to_be_parsed(line: bytes, wanted: Collection[bytes]) -> bool:
    """Return whether `line` is a sample, and its name is wanted or not known yet."""
    if len(line) > LINE_BYTES:
        raise InvalidResponse(f"expected metrics in lines of at most {LINE_BYTES} bytes, got one of {len(line)}")
    if _NO_SAMPLE.fullmatch(line):
        return False
    sample = _SAMPLE.fullmatch(line)
    if sample is None:
        if _QUOTED.match(line):
            return True
        raise _unreadable(line)
    return not wanted or sample[1] in wanted


def _parsed(line: bytes) -> Sample:
    try:
        [sample] = [each for family in text_string_to_metric_families(line.decode()) for each in family.samples]
    except (ValueError, IndexError) as exc:  # what the parser raises, and `str.decode`
        raise _unreadable(line) from exc
    return sample


def _work(line: bytes) -> int:
    return 20 + len(line) // 24


def _json(sample: Sample, line: bytes) -> bytes:
    item = JsonObject()
    item.add("name", encoded(sample.name))
    item.add("labels", encoded(sample.labels))
    item.add("value", _value(sample.value, line))
    return item.json()


def _value(number: float, line: bytes) -> bytes:
    """Return `number` in the digits of `line`; as text if JSON has no such number."""
    if math.isnan(number):
        return b'"NaN"'
    if math.isinf(number):
        return b'"+Inf"' if number > 0 else b'"-Inf"'
    digits = line.rpartition(b"}")[2].split()
    shown = next((text for text in map(_ascii, digits) if is_number(text) and float(text) == number), None)
    return encoded(number) if shown is None else shown.encode()


def _ascii(text: bytes) -> str:
    return text.decode("ascii", errors="replace")


def _unreadable(line: bytes) -> InvalidResponse:
    return InvalidResponse(f"expected metrics in Prometheus' text format, got the line {excerpt(line)}")
