"""Works on a backend's JSON as raw text: checks it, compacts it, selects a part, splits a list into items.

Values are never turned into Python objects and back, so numbers keep their digits. Results never share memory with the
response that they were cut from, so a small part does not keep a large response alive. Knows neither HTTP nor JSON-RPC.

An object may have the same name twice. Both members are kept. If one of them is selected, it is the last one. The same
is true of names that become equal when half surrogate pairs are replaced. But a keyed list with a repeated key is
refused.
"""

import codecs
import functools
import re
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from tidegate.core.topics import check_key
from tidegate.errors import InvalidResponse, TopicError

__all__ = [
    "compact",
]  # public, for authors of backends; everything else is internal

_T = TypeVar("_T")
_Bytes = TypeVar("_Bytes", bytes, bytearray)
_Key = str | int
_LEVEL: msgspec.json.Decoder[dict[str, msgspec.Raw] | list[msgspec.Raw]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw] | list[msgspec.Raw]
)
_LIST: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: msgspec.json.Decoder[_Key] = msgspec.json.Decoder(_Key)
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
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


def check_pointer(text: str) -> str:
    """Return `text` if it is a JSON Pointer (RFC 6901). Raises `ValueError` otherwise."""
    if not _POINTER.fullmatch(text):
        raise ValueError(
            f"expected a JSON Pointer: empty, or /step/step with ~0 for ~ and ~1 for /; got {text[:128]!r}"
        )
    return text


def select(raw: msgspec.Raw, pointer: str) -> msgspec.Raw:
    """Return the part of `raw` at the JSON Pointer `pointer`, byte for byte. The pointer "" names the whole.

    Raises `InvalidResponse` if there is nothing at the pointer; the message names the step. Raises `ValueError` if
    `pointer` is not a JSON Pointer. If an object has a name twice, the last one is used.
    """
    if not pointer:
        return raw
    part = raw
    for depth, step in enumerate(_steps(pointer)):
        part = _child(part, step, pointer=pointer, depth=depth)
    # A `Raw` that msgspec decodes is a view of the whole response, which it would keep alive.
    return part.copy()


def keyed_items(raw: msgspec.Raw, *, items: str, key: str) -> dict[str, msgspec.Raw]:
    """Return the objects of the list at JSON Pointer `items`, by the text of their field `key`, in the list's order.

    A key is a non-empty string or an integer, which is used as decimal text. Raises `InvalidResponse` if there is no
    such list, if an item is not an object, or if a key is missing, of another type, repeated, or contains control or
    format characters.
    """
    found: dict[str, msgspec.Raw] = {}
    for index, item in enumerate(_list_at(raw, items)):
        name = _key_of(item, key, index=index)
        if name in found:
            raise InvalidResponse(
                f"expected each item to have its own {key!r}, got {_shown(name)} again in item {index}"
            )
        found[name] = item.copy()
    return found


def _list_at(raw: msgspec.Raw, items: str) -> list[msgspec.Raw]:
    try:
        return decode(select(raw, items), _LIST)
    except InvalidResponse as exc:
        raise InvalidResponse(f"expected a list at {items!r}: {exc}") from exc


def _key_of(item: msgspec.Raw, key: str, *, index: int) -> str:
    try:
        fields = decode(item, _FIELDS)
        name = str(decode(fields[key], _KEY)) if key in fields else ""
    except InvalidResponse as exc:
        raise InvalidResponse(f"expected item {index} to have a string or an integer as {key!r}: {exc}") from exc
    if not name:
        raise InvalidResponse(f"expected item {index} to have a key in {key!r}, got none")
    try:
        return check_key(name)
    except TopicError as exc:
        raise InvalidResponse(f"item {index}: {exc}") from exc


@functools.lru_cache(maxsize=1024)
def _steps(pointer: str) -> tuple[str, ...]:
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in check_pointer(pointer).split("/")[1:])


def _child(part: msgspec.Raw, step: str, *, pointer: str, depth: int) -> msgspec.Raw:
    try:
        children = decode(part, _LEVEL)
    except InvalidResponse as exc:
        raise InvalidResponse(f"{_nothing_at(pointer, step, depth)}: {exc}") from exc
    if isinstance(children, dict):
        if step in children:
            return children[step]
        raise InvalidResponse(f"{_nothing_at(pointer, step, depth)}: the object there has no such name")
    if _INDEX.fullmatch(step) and int(step) < len(children):
        return children[int(step)]
    raise InvalidResponse(f"{_nothing_at(pointer, step, depth)}: the list there has {len(children)} items")


def _nothing_at(pointer: str, step: str, depth: int) -> str:
    return f"expected a value at {pointer!r}, got nothing at step {depth + 1} ({step!r})"


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


def _shown(text: str) -> str:
    return repr(text if len(text) <= 64 else text[:64] + "…")
