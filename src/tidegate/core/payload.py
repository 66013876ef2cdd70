"""Works on a backend's JSON as raw text: checks it, compacts it, mends half surrogate pairs.

Values are never turned into Python objects and back, so numbers keep their digits. Results never share memory with the
response that they were cut from. What is made of the JSON is in `tidegate.core.shaping`. Knows neither HTTP nor
JSON-RPC.
"""

import codecs
import re
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from tidegate.errors import InvalidResponse

_T = TypeVar("_T")
_Bytes = TypeVar("_Bytes", bytes, bytearray)
_POSITION = re.compile(r"\(byte ([0-9]+)\)")
_PIECE_BYTES = 65536
"""How much of a response `check_utf8` decodes at once, so that it never holds a large one as a string."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_SURROGATE_BYTES = 6
_BACKSLASH = ord("\\")
_HIGH = b"89abAB"
_LOW = b"cdefCDEF"
_REPLACEMENT = rb"\ufffd"
_SLICE = 1024
"""How many surrogates `mend_surrogates` examines between two yields: one or two milliseconds of work."""


class HalfSurrogatePair(InvalidResponse):
    """The JSON has a string with half a surrogate pair (RFC 7493 section 2.1). `mend_surrogates` repairs that."""


def without_bom(raw: _Bytes) -> _Bytes:
    """Return `raw` without the UTF-8 byte order mark that some programs put before JSON (RFC 8259 section 8.1)."""
    return raw.removeprefix(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else raw


def mend_surrogates(raw: bytearray) -> Iterator[None]:
    """Replace each half surrogate pair in the JSON `raw` by U+FFFD, in place, while the caller iterates.

    Such halves occur when a server truncates text inside a character, or for file names that are not Unicode. Each
    step takes at most a few milliseconds, however long `raw` is, so that the caller can yield to the event loop.
    """
    # `high` is where a high half was found, as long as its low half may still follow.
    high: int | None = None
    for seen, match in enumerate(_SURROGATE.finditer(raw), start=1):
        at = match.start()
        if not _is_escaped(raw, at):
            if high is not None and at == high + _SURROGATE_BYTES and raw[at + 3] in _LOW:
                high = None
            else:
                is_high = raw[at + 3] in _HIGH
                _replace(raw, high)
                _replace(raw, None if is_high else at)
                high = at if is_high else None
        if seen % _SLICE == 0:
            yield
    _replace(raw, high)


def compact(raw: bytes | bytearray) -> msgspec.Raw:
    """Return the JSON `raw` without white space between tokens. Everything else, such as digits, stays as it is.

    Raises `InvalidResponse` for bytes that are not UTF-8 or not JSON (RFC 8259: no NaN), for strings with half a
    surrogate pair (RFC 7493 section 2.1), and for values nested deeper than the interpreter's recursion limit.
    """
    check_utf8(raw)
    try:
        return msgspec.Raw(msgspec.json.format(raw, indent=-1))
    except (msgspec.DecodeError, RecursionError) as exc:
        raise decoding_error(raw, exc) from exc


def decode(raw: bytes | bytearray, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Return `decoder.decode(raw)`. Raises `InvalidResponse` if `raw` is not what `decoder` expects."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise decoding_error(raw, exc) from exc


def decoding_error(raw: bytes | bytearray, exc: Exception) -> InvalidResponse:
    """Return an error that says what is wrong with `raw`, and where. `exc` is what decoding it raised."""
    text = memoryview(raw)
    at = _half_pair(text, exc)
    if at is not None:
        got = bytes(text[at : at + _SURROGATE_BYTES]).decode()
        return HalfSurrogatePair(f"expected JSON, got half a surrogate pair, {got}, at byte {at}")
    return InvalidResponse(_what_is_wrong(raw, exc))


def check_utf8(raw: bytes | bytearray) -> None:
    """Raise `InvalidResponse` if `raw` is not UTF-8.

    Decodes in pieces: as one string, a large response may take four times its size in memory.
    """
    whole = memoryview(raw)
    if len(whole) <= _PIECE_BYTES:
        try:
            str(whole, "utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidResponse(_not_utf8(exc, 0)) from exc
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(whole), _PIECE_BYTES):
        # The bytes of a character that the last piece began: positions in an error count from these.
        begun, _ = decoder.getstate()
        try:
            decoder.decode(whole[start : start + _PIECE_BYTES], final=start + _PIECE_BYTES >= len(whole))
        except UnicodeDecodeError as exc:
            at = start - len(begun)
            raise InvalidResponse(_not_utf8(exc, at)) from exc


def check_size(raw: msgspec.Raw, limit_bytes: int) -> msgspec.Raw:
    """Return `raw` if it has at most `limit_bytes` bytes. Raises `InvalidResponse` otherwise."""
    size = len(raw)
    if size > limit_bytes:
        raise InvalidResponse(f"expected at most {limit_bytes} bytes of data, got {size}")
    return raw


def _what_is_wrong(raw: bytes | bytearray, exc: Exception) -> str:
    match exc:
        case RecursionError():
            return "expected JSON that is not nested so deep, got a value nested too deep to be read"
        case UnicodeDecodeError():
            return _not_utf8(exc, 0)
        case msgspec.ValidationError():
            return str(exc)
    size = len(raw)
    if position := _POSITION.search(str(exc)):
        return f"expected JSON, got {_excerpt(raw, int(position[1]))} ({exc})"
    if size == 0:
        return "expected JSON, got nothing at all"
    return f"expected JSON, got {_excerpt(raw, size)}, which ends at byte {size} inside a value or an escape"


def _half_pair(raw: memoryview, exc: Exception) -> int | None:
    """Return the index of the half surrogate pair that made decoding raise `exc`; None if that was not the cause.

    msgspec reports a position just after the half pair or after the next escape, and none at all near the end of the
    text. So the search covers the two escapes before that position.
    """
    if not isinstance(exc, msgspec.DecodeError) or isinstance(exc, msgspec.ValidationError):
        return None
    position = _POSITION.search(str(exc))
    stopped = int(position[1]) if position else len(raw)
    for match in _SURROGATE.finditer(raw, max(0, stopped - 2 * _SURROGATE_BYTES), stopped):
        at = match.start()
        if not _is_escaped(raw, at) and not _has_other_half(raw, at):
            return at
    return None


def _has_other_half(raw: memoryview, at: int) -> bool:
    is_high = raw[at + 3] in _HIGH
    other = at + _SURROGATE_BYTES if is_high else at - _SURROGATE_BYTES
    if other < 0 or not _SURROGATE.match(raw, other) or _is_escaped(raw, other):
        return False
    return (raw[other + 3] in _HIGH) is not is_high


def _is_escaped(raw: bytearray | memoryview, at: int) -> bool:
    """Whether the backslash at `at` is itself escaped: it is after an odd number of backslashes."""
    if at == 0 or raw[at - 1] != _BACKSLASH:
        return False
    # Look back a little first, then farther: nearly all runs of backslashes are short, but a run may be any length.
    size = 16
    while True:
        before = bytes(raw[max(0, at - size) : at])
        run = len(before) - len(before.rstrip(b"\\"))
        if run < size:
            return run % 2 == 1
        size *= 16


def _replace(raw: bytearray, at: int | None) -> None:
    if at is not None:
        raw[at : at + _SURROGATE_BYTES] = _REPLACEMENT


def _not_utf8(exc: UnicodeDecodeError, offset: int) -> str:
    got = exc.object[exc.start : exc.end]
    return f"expected JSON in UTF-8, got {got!r} at byte {offset + exc.start} ({exc.reason})"


def _excerpt(raw: bytes | bytearray, position: int) -> str:
    return repr(bytes(memoryview(raw)[max(0, position - 16) : position + 16]))
