"""The contract of `tidegate.ports.Authenticator`."""

import unittest
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from tidegate.core.access.grant import Grant
from tidegate.errors import MessageError, MessageErrorCode
from tidegate.ports import Authenticator

LONG = 100_000
LONGEST_MESSAGE = 400
"""Most characters in the message of a refusal: it goes into an HTTP answer and a log line."""


class AuthenticatorContract(ABC):
    """Tests for an authenticator. Override `opened` and `tokens`."""

    is_open = False
    """Whether the authenticator accepts any token, and requests without one."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Authenticator]:
        """Make the authenticator."""

    @abstractmethod
    def tokens(self) -> Mapping[str, Grant]:
        """Return tokens that are valid now, and what the bearer of each may do."""

    async def test_a_token_is_its_bearers_each_time(self) -> None:
        async with self.opened() as authenticator:
            for token, grant in [*self.tokens().items()] * 2:
                assert authenticator.verify(token) == grant

    async def test_no_token_is_no_token(self) -> None:
        self._asks()
        async with self.opened() as authenticator:
            assert _refusal(authenticator, "").code is MessageErrorCode.UNAUTHENTICATED

    async def test_any_other_token_is_refused(self) -> None:
        self._asks()
        async with self.opened() as authenticator:
            for token in self._others():
                assert _refusal(authenticator, token).code is MessageErrorCode.UNAUTHENTICATED, token[:80]

    async def test_a_refusal_does_not_repeat_the_token(self) -> None:
        self._asks()
        async with self.opened() as authenticator:
            for token in self._others():
                message = str(_refusal(authenticator, token))
                assert token not in message
                assert message
                assert len(message) <= LONGEST_MESSAGE

    def _asks(self) -> None:
        if self.is_open:
            raise unittest.SkipTest("this authenticator lets everybody in")

    def _others(self) -> list[str]:
        """Invalid tokens: nearly valid ones, and text that is no token. Nothing checks a client's text before this."""
        good = list(self.tokens())
        near = [other for token in good for other in (token[:-1], f"{token}x", f" {token}", f"{token} ", token[::-1])]
        odd = ["nobody's", "\x00\x7f\n", "äöü-täken", "\udcff\udcff", "a.b.c", "....", "x" * LONG, "." * LONG]
        return [token for token in (*near, *odd) if token not in good]


def _refusal(authenticator: Authenticator, token: str) -> MessageError:
    try:
        grant = authenticator.verify(token)
    except MessageError as error:
        return error
    raise AssertionError(f"expected MessageError for {token[:80]!r}, got {grant}")
