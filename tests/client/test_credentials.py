import asyncio
from collections.abc import Iterator

import pytest

from tidegate.client.credentials import Credentials, TokenSource


async def bearer(credentials: Credentials) -> str | None:
    return (await credentials.headers()).get("Authorization")


@pytest.mark.parametrize(("token", "shown"), [("t", "Bearer t"), (None, None), ("", None)])
async def test_a_fixed_token_is_shown_again_and_again(token: TokenSource, shown: str | None) -> None:
    credentials = Credentials(token)
    assert [await bearer(credentials) for _ in range(2)] == [shown] * 2
    assert not credentials.refused()
    assert await bearer(credentials) == shown


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_is_asked_first_and_after_a_refusal(is_async: bool) -> None:
    tokens = iter("abc")

    async def later() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    credentials = Credentials(later if is_async else lambda: next(tokens))
    assert [await bearer(credentials) for _ in range(3)] == ["Bearer a"] * 3
    assert credentials.refused()
    assert [await bearer(credentials) for _ in range(2)] == ["Bearer b"] * 2
    assert not credentials.refused()
    assert await bearer(credentials) == "Bearer c"


async def test_what_the_function_raises_is_raised_and_it_is_asked_again() -> None:
    answers: Iterator[OSError | str] = iter([OSError("no issuer"), "t"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    credentials = Credentials(ask)
    with pytest.raises(OSError, match="no issuer"):
        await credentials.headers()
    assert await bearer(credentials) == "Bearer t"
