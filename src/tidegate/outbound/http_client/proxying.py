"""The HTTP proxy of one backend: its address, and what authenticates us there.

Only the settings of a backend name a proxy. The environment (``HTTP_PROXY`` and the like) is never looked at.
"""

import base64

from yarl import URL

from tidegate.errors import ConfigError, Problem

AUTHORIZATION = "Proxy-Authorization"
"""The header for the proxy (RFC 9110 section 11.7.2). The backend itself must never get it."""

_EXPECTED = "http://HOST:PORT, with USER:PASSWORD@ before the host if the proxy asks for it"


def proxy_address(proxy: str | None) -> URL | None:
    """Return the address of `proxy`, without user name and password. Raises `ConfigError` if it is none."""
    if proxy is None:
        return None
    try:
        url = URL(proxy)
        host, port = url.host, url.explicit_port
        proxy_authorization(proxy)
    except ValueError:
        raise ConfigError([Problem("proxy", _EXPECTED, "text that is no URL")]) from None
    if url.scheme != "http" or not host or not port or url.path_qs not in {"", "/"}:
        raise ConfigError([Problem("proxy", _EXPECTED, str(url.with_user(None)) if host else "no host")])
    return url.with_user(None).with_path("").with_fragment(None)


def proxy_authorization(proxy: str) -> str | None:
    """Return the value of `AUTHORIZATION` for user and password in `proxy`, None without a user.

    Raises `ValueError` for a colon in the user (RFC 7617 section 2).
    """
    url = URL(proxy)
    return None if url.user is None else basic(url.user, url.password or "")


def basic(user: str, password: str) -> str:
    """Return the value of a header for basic authentication. Raises `ValueError` for a colon in the user."""
    if ":" in user:
        raise ValueError("expected a user name without a colon, got one with a colon")
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
