"""The contract of `tidegate.ports.Authenticator`."""

import unittest
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from tidegate.core.grant import Grant
from tidegate.errors import MessageError, MessageErrorCode
from tidegate.ports import Authenticator

LONG = 100_000
LONGEST_MESSAGE = 400
"""The message of a refusal goes into an answer and a log line."""


class AuthenticatorContract(ABC):
    """Tests of an authenticator. `tokens` gives tokens that it knows, and what their bearers may do."""

    is_open = False
    """Whether it lets everybody in, with any token and with none."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Authenticator]:
        """The authenticator."""

    @abstractmethod
    def tokens(self) -> Mapping[str, Grant]:
        """Tokens that are good now."""

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
        """Tokens that are nearly right, and text that is none: what a client sends is checked by nobody before."""
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
