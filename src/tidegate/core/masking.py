"""What must not be shown: credentials in headers, addresses, parameters and text. The only list of their names.

Configuration, logs and messages all mask by these functions. What is masked stays in its place as `MASK`, so that one
still sees that something is there.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

MASK = "***"

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
"""Headers whose values may be shown; every other may hold a credential, whatever it is called."""

_WORDS = (
    r"auth|cookie|token|secret|passw|pwd|credential|session|api[-_]?key|access[-_]?key|private|signature"
    r"|sec-websocket-protocol"
)
_HINTS = (
    *("auth", "cookie", "token", "secret", "passw", "pwd", "credential", "session", "key", "private", "signature"),
    *("sec-websocket-protocol", "bearer", "basic", "digest"),
)
"""A text without any of these, in lower case, holds nothing that `_HEADER_LINE` or `_IN_TEXT` would find."""

_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_ANY_USERINFO = re.compile(r"(?<=://).*@", re.DOTALL)
_QUERY = re.compile(r"(?<=\?)[^#]+")

# Names are bounded, so that no text takes more than a moment.
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
    """A value that may hold secrets: its `repr` shows none of them."""

    def public(self) -> dict[str, object]:
        """The value's fields by name, with every secret masked."""
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


def mask_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """`headers` with every value masked that is not known to be harmless."""
    return {name: value if is_harmless_header(name) else MASK for name, value in headers.items()}


def mask_strings(values: Any) -> Any:
    """`values` with every text in it masked, and what stands under a secret name, at any depth of tables and lists."""
    match values:
        case Mapping():
            return {name: MASK if _holds_secret(name, item) else mask_strings(item) for name, item in values.items()}
        case list() | tuple():
            return [mask_strings(item) for item in values]
        case str():
            return MASK
        case _:
            return values


def mask_url(url: str) -> str:
    """`url`, or a path with a query, without its userinfo and without any value in its query."""
    return _QUERY.sub(lambda query: "&".join(map(_nameless, query[0].split("&"))), _USERINFO.sub(f"{MASK}@", url))


def mask_refused(text: str) -> str:
    """`mask_url` for text that may be a malformed URL: everything that could be userinfo is hidden."""
    return mask_url(_ANY_USERINFO.sub(f"{MASK}@", text))


def mask_text(text: str) -> str:
    """Any text, such as a line of a log, without what its form shows to be a credential."""
    text = _USERINFO.sub(f"{MASK}@", text)
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):  # nearly every line
        return text
    text = _HEADER_LINE.sub(rf"\g<1>{MASK}", text)
    return _IN_TEXT.sub(rf"\g<1>{MASK}", text)


def mask_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Named values, such as those of a log line, masked by their names and in their texts, at any depth.

    What is neither text, number, table nor list is shown as its text.
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
        case (str() | bytes() as header, str() | bytes()) if is_secret_name(_text(header)):
            return [_text(header), MASK]
        case list() | tuple() | set() | frozenset():
            return [_masked("", item) for item in value]
        case bool() | int() | float() | None:
            return value
        case _:
            return mask_text(str(value))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _holds_secret(name: object, value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and is_secret_name(str(name))


def _nameless(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={MASK}" if equals else MASK if parameter else ""
