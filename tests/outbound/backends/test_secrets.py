"""Where secrets are read, and what is said, and not said, when they cannot be."""

from pathlib import Path

import pytest

from tidegate.errors import NoCredentials, Problem
from tidegate.outbound.backends.secrets import SecretPlace, SecretReader, read
from tidegate.secret import Secret
from tidegate.token_file import TOKEN_BYTES

CANARY = b"c4n4ry"
ALL_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))) + "äß漢\u00a0"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_a_secret_is_a_line_with_whatever_can_be_printed(tmp_path: Path, end: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(f"{ALL_PRINTABLE}{end}".encode())
    place = SecretPlace(setting="secrets.key_file", file=path)
    assert await SecretReader({"key": place}).read() == {"key": Secret(ALL_PRINTABLE)}


async def test_a_secret_is_read_anew_each_time(tmp_path: Path) -> None:
    path, environ = tmp_path / "secret", {"V": "one"}
    places = {
        "a": SecretPlace(setting="secrets.a_file", file=path),
        "b": SecretPlace(setting="secrets.b_env", variable="V"),
    }
    reader = SecretReader(places, environ=environ)
    for text in ("one", "two"):
        path.write_text(text)
        environ["V"] = text
        assert await reader.read() == {"a": Secret(text), "b": Secret(text)}


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "an empty file"),
        (b"\n", "an empty file"),
        (CANARY + b"\nmore", "several lines"),
        (CANARY + b"\xff", "text that is not UTF-8"),
        (CANARY + b"\x1b[0m", "a control character"),
        (CANARY * TOKEN_BYTES, f"more than {TOKEN_BYTES} bytes"),
        (None, "No such file"),
    ],
)
async def test_what_is_no_secret_is_named_and_not_shown(tmp_path: Path, content: bytes | None, got: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    reader = SecretReader({"key": SecretPlace(setting="secrets.key_file", file=path)})
    with pytest.raises(NoCredentials) as caught:
        await reader.read()
    message = str(caught.value)
    assert message.startswith(f"secrets.key_file: expected a secret in {path}: one line of printable text")
    assert got in message
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY.decode() not in f"{error!r}"
        error = error.__context__


@pytest.mark.parametrize(("environ", "got"), [({}, "no such variable"), ({"V": ""}, "an empty variable")])
def test_a_variable_that_is_missing_is_named(environ: dict[str, str], got: str) -> None:
    found = read(SecretPlace(setting="secrets.key_env", variable="V"), environ)
    assert isinstance(found, Problem)
    assert "the environment variable V" in found.expected
    assert found.got == got


@pytest.mark.parametrize(("content", "got"), [("a b", "a space"), ("ä", "not ASCII")])
def test_a_token_has_a_narrower_format(tmp_path: Path, content: str, got: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    found = read(SecretPlace(setting="bearer_token_file", file=path, is_token=True))
    assert isinstance(found, Problem)
    assert got in found.got
