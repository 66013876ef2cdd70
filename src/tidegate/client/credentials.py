"""The token of one stream: fixed, or asked for at the beginning and again after it was refused."""

import inspect
from collections.abc import Awaitable, Callable

TokenSource = str | Callable[[], str | Awaitable[str]] | None
"""A token, or a function that gives one, at once or as an awaitable; None for none."""


class Credentials:
    """What a stream shows. Where `token` is a function it is not asked at every attempt, so that a restart of the
    gateway is no rush on whoever gives tokens."""

    def __init__(self, token: TokenSource) -> None:
        self._ask = token if callable(token) else None
        self._token = token if isinstance(token, str) else None
        self._refused = False

    async def headers(self) -> dict[str, str]:
        """The header that carries the token. Raises what the function that was asked for one raises."""
        if self._token is None and self._ask is not None:
            given = self._ask()
            self._token = await given if inspect.isawaitable(given) else given
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def accepted(self) -> None:
        """The stream was let in."""
        self._refused = False

    def refused(self) -> bool:
        """The token was refused; whether another one can be shown: once, until that was accepted."""
        if self._ask is None:
            return False
        again, self._refused = not self._refused, True
        self._token = None
        return again
