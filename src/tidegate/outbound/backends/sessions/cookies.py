"""The cookies of one session: what a backend set since the login, and what is sent back to which address.

`http.cookiejar` of the standard library has the rules (RFC 6265 as far as servers use it: domain, path, Secure, Max-Age
and Expires). Cookies live as long as their session, in memory only.
"""

from collections.abc import Iterable
from email.message import Message
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.request import Request

from yarl import URL

from tidegate.secret import Secret

COOKIES, COOKIES_BYTES = 50, 16_384
"""How many cookies are kept, and how many bytes their names and values have together: what browsers keep for a host,
and servers take in one field."""


class Cookies:
    """An empty jar at first. It keeps `COOKIES` and `COOKIES_BYTES` at most: the oldest go."""

    def __init__(self) -> None:
        # Without a Domain, a cookie goes back to its own host only (RFC 6265 section 5.3), as in browsers.
        self._jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))

    def __bool__(self) -> bool:
        return len(self._jar) > 0

    def take(self, url: URL, set_cookie: Iterable[str]) -> None:
        """Take the values of the ``Set-Cookie`` fields of an answer from `url`. One that is no cookie is ignored."""
        self._jar.extract_cookies(_Answer(set_cookie), _request(url))  # type: ignore[arg-type] # only `info` is used
        kept = 0
        for at, cookie in enumerate(reversed(list(self._jar))):
            kept += len(cookie.name) + len(cookie.value or "")
            if at >= COOKIES or kept > COOKIES_BYTES:
                self._jar.clear(cookie.domain, cookie.path, cookie.name)

    def header(self, url: URL) -> str | None:
        """Return the ``Cookie`` field for a request to `url`; None if no cookie is for it, or all have expired."""
        request = _request(url)
        self._jar.add_cookie_header(request)
        return request.get_header("Cookie")

    def values(self) -> list[Secret]:
        """Return the values of all cookies."""
        return [Secret(cookie.value) for cookie in self._jar if cookie.value]


class _Answer:
    """As much of an answer as the jar looks at."""

    def __init__(self, set_cookie: Iterable[str]) -> None:
        self._fields = Message()
        for value in set_cookie:
            self._fields.add_header("Set-Cookie", value)

    def info(self) -> Message:
        return self._fields


def _request(url: URL) -> Request:
    return Request(str(url))  # noqa: S310 - it is never opened
