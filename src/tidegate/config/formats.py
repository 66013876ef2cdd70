"""The types of configuration values: kinds of text, numbers and JSON.

Each is an annotated type with its own validation rule. The reader, the error messages and the JSON Schema all use it,
so they agree. A rule here checks one value. Rules between keys are in `rules`. The values stay text and numbers: the
types that they become elsewhere, such as `Rate` and `Origin`, are not known here.
"""

import contextlib
import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from tidegate.config.addresses import MAX_SOCKET_PATH_BYTES, is_backend_url, is_login_url, is_proxy, is_url
from tidegate.config.by_ending import ByEnding
from tidegate.core.access.authority import parse_host, parse_origin
from tidegate.core.shaping import check_pointer
from tidegate.core.templates import SECRET_NAME
from tidegate.core.topics import RESERVED_TYPES, check_event_type, check_pattern

MAX_SECONDS = 31_536_000.0
"""Limit on durations: a year. A longer one is certainly a mistake, such as milliseconds."""

SECRET_ENDINGS = ("_file", "_env")
"""How a key ends that says where a secret is. Before it comes the name of the secret."""

MAX_NESTING = 64
"""Limit on the nesting of `params`, far below the depth at which JSON encoders fail."""


class Format(NamedTuple):
    """A rule for one value: a description of what is expected, and a function that checks a value."""

    expected: str
    accepts: Callable[[Any], bool]


def _is_backend_name(text: str) -> bool:
    return bool(re.fullmatch(r"[a-z0-9_-]+", text))


def _is_event_type(text: str) -> bool:
    return _passes(check_event_type, text) and text not in RESERVED_TYPES


def _is_pattern(text: str) -> bool:
    return _passes(check_pattern, text)


def _is_pointer(text: str) -> bool:
    return _passes(check_pointer, text)


def _is_items(value: str | tuple[str, ...]) -> bool:
    return _is_pointer(value) if isinstance(value, str) else bool(value) and all(map(_is_pointer, value))


def _is_key(value: str | tuple[str | tuple[str, ...], ...]) -> bool:
    return bool(value) and (_is_key_part(value) if isinstance(value, str) else all(map(_is_key_of_level, value)))


def _is_key_of_level(value: str | tuple[str, ...]) -> bool:
    return _is_key_part(value) if isinstance(value, str) else all(map(_is_key_part, value))


def _is_key_part(text: str) -> bool:
    return bool(text) and (not text.startswith("/") or _is_pointer(text))


def _is_address(text: str) -> bool:
    return _passes(ipaddress.ip_address, text) or _passes(ipaddress.ip_network, text)


def _is_host_name(text: str) -> bool:
    host = parse_host(text)
    return host is not None and host.port is None and not text.endswith(":")


def _is_origin(text: str) -> bool:
    return parse_origin(text) is not None


def _is_frame_ancestor(text: str) -> bool:
    return _is_origin(text) and bool(re.fullmatch(r"https?://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]+)?", text.lower()))


def _is_root_path(text: str) -> bool:
    return not text or bool(re.fullmatch(r"(?:/[^/?#\s]+)+", text))


def _is_header_name(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text))


def _is_header_value(text: str) -> bool:
    return text.isprintable() and text == text.strip()


def _is_verb(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Z][A-Z-]*", text)) and text not in {"HEAD", "CONNECT", "TRACE"}


def _is_token(text: str) -> bool:
    return bool(text) and text.isprintable() and not re.search(r"\s", text)


def _is_secret_key(text: str) -> bool:
    name = next((text.removesuffix(ending) for ending in SECRET_ENDINGS if text.endswith(ending)), "")
    return bool(SECRET_NAME.fullmatch(name))


def _is_variable(text: str) -> bool:
    return bool(text) and "=" not in text and "\0" not in text


def _is_retry(seconds: float) -> bool:
    return seconds == 0 or 0.1 <= seconds <= 60


def _is_body(value: Any) -> bool:
    return isinstance(value, str) or _is_json(value)


def _is_metric(text: str) -> bool:
    return bool(text) and text.isprintable()


def _is_delimiter(text: str) -> bool:
    return len(text) == 1 and text not in {'"', "\r", "\n", " ", "\0"}


def _is_json(value: Any) -> bool:
    return _is_json_to(value, MAX_NESTING)


def _is_json_to(value: Any, depth: int) -> bool:
    match value:
        case dict():
            return depth > 0 and all(_is_json_to(inner, depth - 1) for inner in value.values())
        case list():
            return depth > 0 and all(_is_json_to(inner, depth - 1) for inner in value)
        case float():
            return math.isfinite(value)
        case _:
            return isinstance(value, str | int)


def _passes(check: Callable[[str], object], text: str) -> bool:
    try:
        check(text)
    except ValueError:
        return False
    return True


def _format(expected: str, accepts: Callable[[Any], bool], **keywords: Any) -> msgspec.Meta:
    return msgspec.Meta(description=f"Expected: {expected}.", extra={"format": Format(expected, accepts)}, **keywords)


FILE = Format("a file that exists and can be read", lambda text: bool(text) and "\0" not in text)
SECRET_FILE = Format("a file that exists, with the secret (`umask 077; cat >FILE`, paste, Enter, Ctrl-D)", FILE.accepts)
SOCKET = Format("the path of a Unix socket", lambda text: bool(text) and text.isprintable())
DIRECTORY = Format('a directory, or "" for none', lambda text: "\0" not in text)

Seconds = Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)]
SecondsOrZero = Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
RetrySeconds = Annotated[
    float,
    _format(
        "0 (off), or a number of seconds from 0.1 to 60",
        _is_retry,
        extra_json_schema={"anyOf": [{"const": 0}, {"minimum": 0.1, "maximum": 60}]},
    ),
]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
CountOrZero = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
SizeOrZero = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
PerSecond = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Fraction = Annotated[float, msgspec.Meta(gt=0, le=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
FilePath = Annotated[str, msgspec.Meta(min_length=1, extra={"format": FILE})]
SecretFile = Annotated[str, msgspec.Meta(min_length=1, extra={"format": SECRET_FILE})]
SocketPath = Annotated[str, msgspec.Meta(min_length=1, extra={"format": SOCKET})]
DirectoryPath = Annotated[str, msgspec.Meta(extra={"format": DIRECTORY})]
BackendName = Annotated[str, _format("a backend name of [a-z0-9_-]+", _is_backend_name)]
EventType = Annotated[
    str,
    _format(
        "an event type (dotted segments of [a-z0-9_-]+, at most 8 and 128 characters), not reserved", _is_event_type
    ),
]
Pattern = Annotated[str, _format("a pattern: an event type, a prefix ending in '.*', or '*'", _is_pattern)]
Pointer = Annotated[str, _format('a JSON Pointer (RFC 6901), such as "" or "/agents"', _is_pointer)]
Items = Annotated[
    str | tuple[str, ...],
    _format('a JSON Pointer (RFC 6901), such as "" or "/agents", or a list of them, one for each level', _is_items),
]
Key = Annotated[
    str | tuple[str | tuple[str, ...], ...],
    _format('the name of a field, or a JSON Pointer such as "/labels/id", or a list of these', _is_key),
]
Url = Annotated[str, _format("an http:// or https:// URL with a host and no fragment", is_url)]
BackendUrl = Annotated[
    str,
    _format(
        "a URL: http://, https://, ws:// or wss:// with a host and no fragment, tcp://HOST:PORT, or unix:///PATH of at"
        f" most {MAX_SOCKET_PATH_BYTES} bytes",
        is_backend_url,
    ),
]
ErrorMark = Annotated[
    int | str,
    _format("an error code (a whole number), or a text that the error's message contains", lambda mark: mark != ""),
]
LoginUrl = Annotated[
    str, _format("an http:// or https:// URL without a fragment, or a path below that of the backend", is_login_url)
]
ProxyUrl = Annotated[
    str, _format("http://HOST:PORT, with USER:PASSWORD@ before the host if the proxy asks for it", is_proxy)
]
OriginText = Annotated[
    str,
    _format(
        'an origin as browsers send it, scheme://host[:port] with no path, the host in ASCII (xn--…), or "null"',
        _is_origin,
    ),
]
FrameAncestor = Annotated[
    str,
    _format(
        "an origin that a Content-Security-Policy can name: http:// or https://, then a host name or IPv4 address"
        " of letters, digits, '-' and '.' (xn--…), and :port if it is not the usual one; no path",
        _is_frame_ancestor,
    ),
]
HostName = Annotated[
    str, _format("a host name or address, with neither scheme nor port, in ASCII (xn--…)", _is_host_name)
]
AddressOrNetwork = Annotated[str, _format("an address or a network, such as 10.0.0.1 or 10.0.0.0/8", _is_address)]
Protocol = Annotated[str, _format('"jsonrpc", "http" or the name of a plug-in: [a-z0-9_-]+', _is_backend_name)]
RootPath = Annotated[str, _format('"" or a path such as "/live": a slash in front, none at the end', _is_root_path)]
HeaderName = Annotated[str, _format("a header name (RFC 9110 section 5.1)", _is_header_name)]
HeaderValue = Annotated[str, _format("text in one line, with no space around it", _is_header_value)]
TokenText = Annotated[str, _format("printable text without spaces", _is_token)]
SecretKey = Annotated[
    str, _format("NAME_file or NAME_env, with a name of letters, digits, '_' and '-' for the secret", _is_secret_key)
]
Variable = Annotated[str, _format("the name of a variable of the environment", _is_variable)]
SecretPlace = Annotated[str, msgspec.Meta(extra={"by_ending": ByEnding({"_file": SecretFile, "_env": Variable})})]
JsonParams = Annotated[
    dict[str, Any] | list[Any],
    _format(f"a table or list of JSON values (no dates, no inf or nan), at most {MAX_NESTING} deep", _is_json),
]

Body = Annotated[
    str | dict[str, Any] | list[Any],
    _format(f"text, or a table or list of JSON values (no dates, no inf or nan), at most {MAX_NESTING} deep", _is_body),
]
Verb = Annotated[str, _format("an HTTP method in capitals, such as GET or POST, whose answer has a body", _is_verb)]
MetricName = Annotated[str, _format("the name of a Prometheus metric", _is_metric)]
Delimiter = Annotated[str, _format('one character, such as "," or ";" or "\\t", no quote and no space', _is_delimiter)]
Status = Annotated[int, msgspec.Meta(ge=200, le=599)]


def resolved(path: str, directory: Path) -> str:
    """Return `path` as an absolute path. ``~`` is the home directory; relative paths are relative to `directory`."""
    given = Path(path)
    with contextlib.suppress(RuntimeError):  # there is no home directory: take ``~`` literally
        given = given.expanduser()
    return str((directory / given).absolute())
