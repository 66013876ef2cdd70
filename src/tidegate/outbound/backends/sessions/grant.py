"""What a login gave, or a refusal: a token, cookies, a header. Knows how it is sent with a call, not how it was got."""

import math
from collections.abc import Mapping, Sequence

import msgspec
from yarl import URL

from tidegate.core.payload import decode
from tidegate.core.shaping import select
from tidegate.core.templates import TOKEN
from tidegate.errors import BackendError, LoginRefused
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.sessions.cookies import Cookies
from tidegate.printable import steers
from tidegate.secret import Secret
from tidegate.token_file import TOKEN_BYTES

EARLY_S = 30.0
EARLY_SHARE = 0.1
"""How long before its end a token is replaced: so many seconds, or that share of its life if it is less."""

Fields = Mapping[bytes, Sequence[bytes]]
"""The header fields of an answer, by their names in lower case."""


class LoginGrant:
    """What is sent with the calls of a session. `ends_at` is the monotonic time from which it must not be used.

    `late` are headers that are made of the token. `key` is that of the credentials of the login.
    """

    def __init__(
        self,
        *,
        key: bytes = b"",
        token: Secret | None = None,
        header: tuple[str, Secret] | None = None,
        cookies: Cookies | None = None,
        ends_at: float = math.inf,
        late: Mapping[str, str] | None = None,
    ) -> None:
        self._token = token
        self._header = header
        self._cookies = cookies
        self._late = late or {}
        self.key = key
        self.ends_at = ends_at

    def added_to(self, credentials: Credentials, url: URL) -> Credentials:
        """Return `credentials` for calls to `url`, with this."""
        named = {} if self._token is None else {TOKEN: self._token}
        both = credentials.granted(named, headers={})
        headers = {name: both.text(value) for name, value in self._late.items()}
        given = []
        if self._header is not None:
            name, value = self._header
            headers[name] = value.reveal()
            given.append(value)
        if self._cookies is not None:
            cookie = self._cookies.header(url)
            headers |= {} if cookie is None else {"Cookie": cookie}
            given += self._cookies.values()
        return credentials.granted(named, headers=headers, given=given)

    def follow(self, url: URL, fields: Fields) -> None:
        """A call with it was answered, with these header fields: the backend may have replaced a cookie."""
        if self._cookies is not None and b"set-cookie" in fields:
            self._cookies.take(url, texts(fields, "set-cookie"))

    def with_header(self, header: tuple[str, Secret]) -> "LoginGrant":
        """Return a grant with `header` instead of the one that was sent before."""
        return LoginGrant(
            key=self.key,
            token=self._token,
            header=header,
            cookies=self._cookies,
            ends_at=self.ends_at,
            late=self._late,
        )


def token_in(answer: bytes, pointer: str) -> tuple[Secret, float | None]:
    """Return the token at `pointer` of a login's answer, and for how many seconds it is good, if that stands beside it.

    Raises `LoginRefused` if there is none: servers also answer so where they take no login.
    """
    try:
        found: object = decode(select(msgspec.Raw(answer), pointer), _ANY)
    except BackendError as exc:
        raise LoginRefused(f"expected a token in the answer to the login: {exc}") from None
    text = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
    if not isinstance(text, str) or not is_sendable(text):
        kind = "null" if found is None else type(found).__name__
        got = "text that cannot be sent" if isinstance(text, str) else kind
        raise LoginRefused(f'expected a token at "{pointer}" of the answer to the login, got {got}')
    return Secret(text), _expires_in(answer, pointer)


def header_in(fields: Fields, name: str) -> tuple[str, Secret] | None:
    """Return the field `name` of an answer, to be sent back; None if there is none that can be sent."""
    value = next(iter(texts(fields, name)), None)
    return (name, Secret(value)) if value is not None and is_sendable(value) else None


def texts(fields: Fields, name: str) -> list[str]:
    """Return the values of the field `name`."""
    return [value.decode("latin-1") for value in fields.get(name.lower().encode(), ())]


def is_sendable(text: str) -> bool:
    """Whether `text`, which a backend chose, can be sent back to it in a header."""
    return 0 < len(text) <= TOKEN_BYTES and not any(map(steers, text))


def ends_at(expires_in: float | None, *, now: float) -> float:
    """Return from when on a token must be replaced that is good for `expires_in` seconds; None is for ever."""
    if expires_in is None:
        return math.inf
    return now + expires_in - min(EARLY_S, expires_in * EARLY_SHARE)


def _expires_in(answer: bytes, pointer: str) -> float | None:
    """Return the number at ``expires_in`` beside `pointer` (RFC 6749 section 5.1), in seconds."""
    if not pointer:
        return None
    try:
        found: object = decode(select(msgspec.Raw(answer), f"{pointer.rpartition('/')[0]}/expires_in"), _ANY)
        number = float(found) if isinstance(found, int | float | str) and not isinstance(found, bool) else None
    except (BackendError, ValueError):
        return None
    return number if number is not None and 0 < number < math.inf else None


_ANY = msgspec.json.Decoder(object)
