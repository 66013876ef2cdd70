"""Derives the URLs of a gateway's stream and API from any address of it that a user may type."""

from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from tidegate.loopback import is_loopback

DEFAULT_URL = "http://127.0.0.1:12080"

STREAM_PATH = "/ws"
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}


def stream_url(url: str, *, types: Iterable[str] | None, since: str | None) -> str:
    """Return the WebSocket URL of the gateway at `url`: its web page, its API root or the WebSocket itself.

    Query parameters of `url` are kept, except that `types` and `since` replace those of the same name when given.
    Raises `ValueError` for a malformed `url`.
    """
    parts = _parts(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if types is not None:
        query["types"] = ",".join(types)
    if since is not None:
        query["since"] = since
    return parts._replace(path=_root(parts) + STREAM_PATH, query=urlencode(query, safe=",:*")).geturl()


def api_url(url: str, path: str) -> str:
    """Return the URL of an API `path`, such as ``/api/v1/events``, of the gateway at `url`.

    Raises `ValueError` for a malformed `url`.
    """
    parts = _parts(url)
    return parts._replace(scheme=_HTTP_SCHEMES[parts.scheme], path=_root(parts) + path, query="").geturl()


def names_this_machine(url: str) -> bool:
    """Return whether `url` names this machine. Such a URL is never requested through a proxy."""
    host = urlsplit(url).hostname or ""
    return is_loopback(host) or host.endswith(".localhost")  # RFC 6761 section 6.3


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"expected the address of a gateway, such as {DEFAULT_URL}, got {url!r}")
    _ = parts.port  # raises ValueError if the port is malformed
    return parts._replace(scheme=_SCHEMES[parts.scheme], fragment="")


def _root(parts: SplitResult) -> str:
    return parts.path.removesuffix("/").removesuffix(STREAM_PATH)
