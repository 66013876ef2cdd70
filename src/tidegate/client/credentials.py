"""The token of one stream: fixed, or obtained from a function at the start and again after it was refused."""

import inspect
from collections.abc import Awaitable, Callable

TokenSource = str | Callable[[], str | Awaitable[str]] | None
"""A token, a function that returns one (or an awaitable of one), or None for no token."""


class Credentials:
    """The credentials that one stream sends.

    If `token` is a function, its result is cached. When a gateway restarts, its clients all reconnect; they must not
    all call the token issuer at the same moment.
    """

    def __init__(self, token: TokenSource) -> None:
        self._ask = token if callable(token) else None
        self._token = token if isinstance(token, str) else None
        self._refused = False

    async def headers(self) -> dict[str, str]:
        """Return the header that carries the token, if there is one. Exceptions of the token function propagate."""
        if self._token is None and self._ask is not None:
            given = self._ask()
            self._token = await given if inspect.isawaitable(given) else given
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def accepted(self) -> None:
        """Record that the gateway accepted the token."""
        self._refused = False

    def refused(self) -> bool:
        """Record that the token was refused. Return whether to try again with a new one.

        A new token is tried once. If that is refused too, the answer is False, until some token has been accepted.
        """
        if self._ask is None:
            return False
        again, self._refused = not self._refused, True
        self._token = None
        return again
