"""A login that was refused rests: the same secret is not tried again at once, however a backend is connected to."""

import asyncio

import msgspec

from tidegate.errors import LoginRefused, NoCredentials

REST_S = 60.0
REST_MAX_S = 900.0
"""How long a refused login is not repeated, in seconds; doubled with each refusal in a row, up to the maximum.

Services lock an account, or an address, after about five failures within ten minutes.
"""


class Rest(msgspec.Struct):
    """For how long something is not tried again."""

    until: float = 0.0
    next_s: float = REST_S

    @property
    def is_over(self) -> bool:
        return _now() >= self.until

    def begin(self) -> None:
        self.until = _now() + self.next_s
        self.next_s = min(self.next_s * 2, REST_MAX_S)


class RefusedLogin:
    """The last login of one backend that was refused, if any. `key` always tells one secret from another."""

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._rest = Rest()
        self._error: LoginRefused | None = None

    def check(self, key: bytes) -> None:
        """Raise `NoCredentials` while a login with these credentials must not be repeated."""
        if key == self._key and not self._rest.is_over:
            raise NoCredentials(f"{self._error}; another secret is tried at once, this one again later")

    def begin(self, error: LoginRefused, key: bytes) -> None:
        """Note that a login was refused with `error`."""
        if self._key != key:
            self._key, self._rest = key, Rest()
        self._error = error
        self._rest.begin()

    def end(self) -> None:
        """Note that a login was taken."""
        self._key = self._error = None


def _now() -> float:
    return asyncio.get_running_loop().time()
