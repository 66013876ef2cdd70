"""JSON Pointers (RFC 6901): what they are, and what to say of one that leads nowhere.

Knows neither shapes nor how a value is found fast; that is in `lookup`.
"""

import difflib
import functools
import re

import msgspec

from tidegate.core.payload import decoding_error
from tidegate.errors import InvalidResponse

Members = dict[str, msgspec.Raw] | list[msgspec.Raw]

_LEVEL: msgspec.json.Decoder[Members] = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw])
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
MAX_STEPS = 64
"""The limit of a pointer, as of the nesting of `params`: far below the depth at which code that recurses fails."""
_NAMES_SHOWN = 8
_NAMES_COMPARED = 256
"""Among how many names of an object similar ones are looked for: comparing takes some microseconds each."""
_KINDS = {b'"': "a text", b"t": "true", b"f": "false", b"n": "null", b"[": "a list", b"{": "an object"}


def check_pointer(text: str) -> str:
    """Return `text` if it is a JSON Pointer of at most `MAX_STEPS` steps. Raises `ValueError` otherwise."""
    if not _POINTER.fullmatch(text):
        raise ValueError(
            f"expected a JSON Pointer: empty, or /step/step with ~0 for ~ and ~1 for /; got {text[:128]!r}"
        )
    if text.count("/") > MAX_STEPS:
        raise ValueError(f"expected a JSON Pointer of at most {MAX_STEPS} steps, got {text.count('/')}")
    return text


@functools.lru_cache(maxsize=1024)
def steps(pointer: str) -> tuple[str, ...]:
    """Return the names and indices in `pointer`, unescaped. Raises `ValueError` if it is no JSON Pointer."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in check_pointer(pointer).split("/")[1:])


def pointer_to(name: str) -> str:
    """Return the pointer to the member `name` of an object."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def members_of(raw: msgspec.Raw) -> Members | None:
    """Return what the object or list `raw` consists of, as views of it; None if it is neither.

    If an object has a name twice, the last one counts. Raises `InvalidResponse` if `raw` cannot be read.
    """
    try:
        return _LEVEL.decode(raw)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise decoding_error(raw, exc) from exc


def member_at(members: Members | None, step: str) -> msgspec.Raw | None:
    """Return the member of an object, or the item of a list, that `step` names; None if there is none."""
    if isinstance(members, dict):
        return members.get(step)
    if members is None or not is_index(step) or int(step) >= len(members):
        return None
    return members[int(step)]


def is_index(step: str) -> bool:
    """Whether `step` may name an item of a list."""
    return _INDEX.fullmatch(step) is not None


def nothing_at(raw: msgspec.Raw, pointer: str) -> InvalidResponse:
    """Return an error that says at which step `pointer` leads nowhere in `raw`, and what is there instead.

    Names that are similar to the step come first. There must be nothing at `pointer`.
    """
    part: msgspec.Raw | None = raw
    for depth, step in enumerate(steps(pointer), start=1):
        assert part is not None, "the last step led somewhere"
        members = members_of(part)
        within, part = part, member_at(members, step)
        if part is None:
            what = _what_is_there(within, members, step)
            return InvalidResponse(f"expected a value at {pointer!r}, got nothing at step {depth} ({step!r}): {what}")
    raise AssertionError(f"there is a value at {pointer!r}")


def kind_of(raw: msgspec.Raw) -> str:
    """Return in words what kind of value the JSON `raw` is, such as "a list"."""
    return _KINDS.get(bytes(memoryview(raw)[:1]), "a number")


def shown(text: str) -> str:
    """Return `text`, which a backend chose, for a message: quoted, escaped and shortened."""
    return repr(text if len(text) <= 64 else text[:64] + "…")


def _what_is_there(within: msgspec.Raw, members: Members | None, step: str) -> str:
    match members:
        case None:
            return f"the value there is {kind_of(within)}"
        case list():
            return f"the list there has {len(members)} items"
        case {} if not members:
            return "the object there is empty"
    similar = difflib.get_close_matches(step, list(members)[:_NAMES_COMPARED])
    names = [*similar, *(name for name in members if name not in similar)]
    more = len(names) - _NAMES_SHOWN
    return f"the object there has {', '.join(map(shown, names[:_NAMES_SHOWN]))}" + (f" and {more} more" * (more > 0))
