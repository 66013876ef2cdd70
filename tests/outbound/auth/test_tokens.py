import asyncio
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tidegate.core.access.grant import UNRESTRICTED, Grant, Role
from tidegate.core.log_events import LimitedEvent
from tidegate.core.measurements import LogLineSuppressed, Measurement
from tidegate.errors import ConfigError, MessageError, MessageErrorCode
from tidegate.outbound.auth import KnownToken, OpenAuthenticator, TokenAuthenticator, TokenFile, files
from tidegate.runtime.limited_log import LoggedFault

READER = Grant(name="reader", roles=frozenset({Role.SUBSCRIBER}))
WRITER = Grant(name="writer", roles=frozenset({Role.PUBLISHER}))


def tokens() -> TokenAuthenticator:
    return TokenAuthenticator([KnownToken("r-123", READER), KnownToken("w-456", WRITER)])


def in_file(path: Path) -> KnownToken:
    return KnownToken(TokenFile(path, "auth.tokens[0].token_file"), READER)


async def test_without_authentication_everyone_may_do_everything() -> None:
    assert OpenAuthenticator().verify("") is UNRESTRICTED
    assert OpenAuthenticator().verify("anything") is UNRESTRICTED


def test_a_token_is_its_bearers() -> None:
    assert tokens().verify("r-123") is READER
    assert tokens().verify("w-456") is WRITER


@pytest.mark.parametrize(
    "token", ["", "r-12", "r-1234", "R-123", " r-123", "r-123 ", "w-123", "é", "\udcff", "x" * 100_000]
)
def test_any_other_token_is_refused_without_being_repeated(token: str) -> None:
    with pytest.raises(MessageError) as refused:
        tokens().verify(token)
    assert refused.value.code is MessageErrorCode.UNAUTHENTICATED
    assert not refused.value.retryable
    assert len(str(refused.value)) < 80
    assert not token or token not in str(refused.value)


def test_every_token_is_compared_and_only_digests_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    authenticator = tokens()
    monkeypatch.setattr(hmac, "compare_digest", counting)
    authenticator.verify("r-123")
    assert len(compared) == 2
    assert {len(digest) for pair in compared for digest in pair} == {32}


def test_no_token_is_no_token_even_if_one_were_empty() -> None:
    with pytest.raises(MessageError):
        TokenAuthenticator([KnownToken("", READER)]).verify("")


def test_no_token_is_shown() -> None:
    assert "r-123" not in repr(KnownToken("r-123", READER))


def test_a_file_holds_one_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  f-789\n\n")
    assert TokenAuthenticator([in_file(path)]).verify("f-789") is READER


@pytest.mark.parametrize(
    ("content", "got"),
    [(b"", "with nothing"), (b"\n", "with nothing"), (b"a b", "something else"), (b"\xc3\xa9", "something else"),
     (b"x" * 70_000, "more than 65536 bytes"), (None, "No such file")],
)  # fmt: skip
def test_a_file_without_a_token_is_named(tmp_path: Path, content: bytes | None, got: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        TokenAuthenticator([in_file(path)])
    [problem] = refused.value.problems
    assert problem.path == "auth.tokens[0].token_file"
    assert got in problem.got
    assert str(path) in problem.got


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def knows(authenticator: TokenAuthenticator, token: str) -> bool:
    try:
        authenticator.verify(token)
    except MessageError:
        return False
    return True


def replace(path: Path, text: str) -> None:
    """In one step, for who reads `path` in the middle of a write finds it empty, which is a trouble of its own."""
    written = path.with_suffix(".new")
    written.write_text(text)
    written.replace(path)


async def test_a_file_that_changes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "REREAD_S", 0.0)
    path = tmp_path / "token"
    path.write_text("old")
    observed: list[Measurement] = []
    authenticator = TokenAuthenticator([in_file(path)], observe=observed.append)
    running = asyncio.create_task(authenticator.run())
    replace(path, "new")
    await eventually(lambda: knows(authenticator, "new"))
    assert not knows(authenticator, "old")

    with capture_logs() as lines:
        path.unlink()
        await eventually(lambda: bool(lines))
        await eventually(lambda: LogLineSuppressed(LimitedEvent.FILE_NOT_RELOADED) in observed)
        assert knows(authenticator, "new"), "what was read before stays"
        replace(path, "newest")
        await eventually(lambda: knows(authenticator, "newest"))
        await eventually(lambda: lines[-1]["event"] == "the content is used again")
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
        "not reloaded, the earlier content stays in use"
    ], "one warning for one trouble"
    running.cancel()


@pytest.mark.timeout(30)
async def test_a_file_that_becomes_a_pipe_keeps_the_old_token_and_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "REREAD_S", 0.0)
    warnings: list[dict[str, Any]] = []
    monkeypatch.setattr(LoggedFault, "occurred", lambda _, **fields: warnings.append(fields))
    path = tmp_path / "token"
    path.write_text("old")
    authenticator = TokenAuthenticator([in_file(path)])
    running = asyncio.create_task(authenticator.run())
    path.unlink()
    os.mkfifo(path)
    await eventually(lambda: any("a named pipe, not a regular file" in warning["problem"] for warning in warnings))
    assert knows(authenticator, "old")
    running.cancel()
    await asyncio.wait({running})
    await asyncio.get_running_loop().shutdown_default_executor()


def test_every_file_without_a_token_is_named_at_once(tmp_path: Path) -> None:
    listed = [KnownToken(TokenFile(tmp_path / str(n), f"auth.tokens[{n}].token_file"), READER) for n in range(2)]
    with pytest.raises(ConfigError) as refused:
        TokenAuthenticator(listed)
    assert [problem.path for problem in refused.value.problems] == [
        "auth.tokens[0].token_file",
        "auth.tokens[1].token_file",
    ]
