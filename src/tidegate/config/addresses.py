"""Which texts are addresses: of a web page, of a backend, of a proxy. `formats` has the words for them."""

import re
from urllib.parse import urlsplit

MAX_SOCKET_PATH_BYTES = 107
"""Limit of the kernel on the path of a Unix socket."""


def is_url(text: str) -> bool:
    """Whether `text` is an ``http://`` or ``https://`` URL with a host and no fragment."""
    return text.startswith(("http://", "https://")) and _has_authority(text) and "#" not in text


def is_login_url(text: str) -> bool:
    """Whether it is an HTTP URL, or a path below one."""
    if "://" in text:
        return is_url(text)
    return bool(text) and text.isprintable() and " " not in text and "#" not in text


def is_backend_url(text: str) -> bool:
    """Whether a backend can be reached at `text`."""
    match text.partition("://"):
        case ("http" | "https" | "ws" | "wss", _, _):
            return _has_authority(text) and "#" not in text
        case ("tcp", _, address):
            return _has_authority(text) and bool(re.fullmatch(r"[^/?#@]+:[0-9]+", address))
        case ("unix", _, path):
            return path.startswith("/") and path.isprintable() and len(path.encode()) <= MAX_SOCKET_PATH_BYTES
        case _:
            return False


def is_proxy(text: str) -> bool:
    """Whether `text` is the address of an HTTP proxy, perhaps with a user name and a password."""
    return _has_authority(text) and bool(re.fullmatch(r"http://([^/?#@]*@)?[^/?#@]+:[0-9]+/?", text))


def _has_authority(url: str) -> bool:
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
