"""Masks credentials in headers, URLs, parameters and text. The names of secrets are listed only here.

Configuration, logs and messages all use these functions. A masked value is replaced by `MASK`, so that a reader can
still see that there was one.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from tidegate.core.templates import masked
from tidegate.secret import MASK

HARMLESS_HEADERS = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "origin",
        "pragma",
        "upgrade",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-proto",
    }
)
"""Headers whose values may be shown. The value of any other header is masked: it may hold a credential."""

_WORDS = (
    r"auth|cookie|token|secret|passw|pwd|credential|session|api[-_]?key|access[-_]?key|private|signature"
    r"|sec-websocket-protocol"
)
_HINTS = (
    *("auth", "cookie", "token", "secret", "passw", "pwd", "credential", "session", "key", "private", "signature"),
    *("sec-websocket-protocol", "bearer", "basic", "digest"),
)
"""If a text, in lower case, contains none of these, `_HEADER_LINE` and `_IN_TEXT` match nothing in it.

To search for them is much faster than to match the two expressions, and nearly all lines of a log contain none.
"""

_LISTS_OF_NAMES = frozenset({"added", "changed", "keys", "kids", "needs_restart", "removed", "types"})
_ONLY_A_PLACE = re.compile(r"\{[A-Za-z][A-Za-z0-9_-]*\}")
_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_ANY_USERINFO = re.compile(r"(?<=://).*@", re.DOTALL)
_QUERY = re.compile(r"(?<=\?)[^#]+")

# Names are limited in length, so that matching does not take quadratic time on a text made to cause it.
_SCHEME = r"(?:(?:bearer|basic|digest)\s{1,8})?"
_IN_TEXT = re.compile(
    rf"""(
        (?: {_WORDS} ) [\w.-]{{0,64}} (?<!_file) = ["']?                               # token=…, ?api-key=…
      | (?: {_WORDS} ) [\w.-]{{0,64}} (?<!_file) ["'] \s{{0,8}} [:,] \s{{0,8}} b?["'] {_SCHEME}  # "token": "…"
      | \b (?: bearer | basic | digest ) \s{{1,8}} (?! token\b )
      | tidegate\.token\.
    ) [^&\#\s"']+""",
    re.IGNORECASE | re.VERBOSE,
)
_HEADER_LINE = re.compile(
    rf"""(
        (?: authorization | cookie2? | sec-websocket-protocol | api[-_]key
          | (?<=-) (?: {_WORDS} ) [\w-]{{0,64}} )
        \s{{0,8}} : \s{{0,8}} {_SCHEME}
    ) [^"'\r\n]+""",
    re.IGNORECASE | re.VERBOSE,
)


class Masked(msgspec.Struct, frozen=True):
    """A value that may hold secrets, which its `repr` masks."""

    def public(self) -> dict[str, object]:
        """Return the value's fields by name, with every secret masked."""
        return msgspec.structs.asdict(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.public().items())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(self.public().items())


def is_secret_name(name: str) -> bool:
    """Whether a parameter or key of this name is likely to hold a credential."""
    return bool(_SECRET_NAME.search(name)) and not name.endswith("_file")


def is_harmless_header(name: str) -> bool:
    """Whether the values of the header `name` may be shown."""
    return name.lower() in HARMLESS_HEADERS


def mask_headers(headers: Mapping[str, Any], *, shown_names: Collection[str] = ()) -> dict[str, Any]:
    """Return `headers`, with the values of all but `HARMLESS_HEADERS` masked.

    Places for secrets that have one of `shown_names`, such as ``{key}``, are shown.
    """
    return {
        name: value if is_harmless_header(name) else masked(str(value), shown_names) for name, value in headers.items()
    }


def mask_strings(values: Any) -> Any:
    """Return `values` with every string masked, and every value with a secret name, at any depth."""
    match values:
        case Mapping():
            return {name: MASK if _holds_secret(name, item) else mask_strings(item) for name, item in values.items()}
        case list() | tuple():
            return [mask_strings(item) for item in values]
        case str():
            return MASK
        case _:
            return values


def userinfo(url: str) -> str:
    """Return the user name and password in `url`, as written; "" if there are none."""
    found = _USERINFO.search(url)
    return found[0].removesuffix("@") if found else ""


def mask_options(values: Any, name: str = "") -> Any:
    """Return the options of a plug-in with every text masked whose name is a secret's, and with no user in a URL.

    A text such as ``{password}`` is shown: it names a secret, and holds none.
    """
    match values:
        case Mapping():
            return {inner: mask_options(item, inner) for inner, item in values.items()}
        case list() | tuple():
            return [mask_options(item, name) for item in values]
        case str() if is_secret_name(name) and not _ONLY_A_PLACE.fullmatch(values):
            return MASK
        case str():
            return mask_text(values)
        case _:
            return values


def mask_url(url: str) -> str:
    """Return `url`, which may be just a path and query, with its userinfo and all values in its query masked."""
    return _QUERY.sub(lambda query: "&".join(map(_mask_parameter, query[0].split("&"))), _USERINFO.sub(f"{MASK}@", url))


def mask_refused(text: str) -> str:
    """Mask a text that may be a malformed URL: as `mask_url`, but everything that could be userinfo is masked."""
    return mask_url(_ANY_USERINFO.sub(f"{MASK}@", text))


def mask_text(text: str) -> str:
    """Return `text`, such as a line of a log, with everything that looks like a credential masked."""
    text = _USERINFO.sub(f"{MASK}@", text)
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):  # true for nearly every line, and much faster than what follows
        return text
    text = _HEADER_LINE.sub(rf"\g<1>{MASK}", text)
    return _IN_TEXT.sub(rf"\g<1>{MASK}", text)


def mask_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return named values, such as those of a log line, with secrets masked by name and inside texts, at any depth.

    A value that is not text, a number, a mapping or a list becomes text.
    """
    return {name: _masked(name, value) for name, value in fields.items()}


def _masked(name: str, value: Any) -> Any:
    match value:
        case str() | bytes() if is_secret_name(name):
            return MASK
        case str():
            return mask_text(value)
        case Mapping():
            named = {str(inner): item for inner, item in value.items()}
            return mask_headers(named) if name.lower() == "headers" else mask_fields(named)
        case (str() | bytes() as header, str() | bytes()) if not _is_list(name) and is_secret_name(_text(header)):
            return [_text(header), MASK]
        case list() | tuple() | set() | frozenset():
            return [_masked("", item) for item in value]
        case bool() | int() | float() | None:
            return value
        case _:
            return mask_text(str(value))


def _is_list(name: str) -> bool:
    """Whether values of this name are names of the configuration: two of them are no header and its value."""
    return name in _LISTS_OF_NAMES


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _holds_secret(name: object, value: object) -> bool:
    # A mapping or list under a secret name is searched instead, and a bool says too little to be a secret.
    return isinstance(value, str | int | float) and not isinstance(value, bool) and is_secret_name(str(name))


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={MASK}" if equals else MASK if parameter else ""
