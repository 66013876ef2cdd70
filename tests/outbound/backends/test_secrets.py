"""Where secrets are read, and what is said, and not said, when they cannot be."""

import base64
import os
from pathlib import Path

import pytest

from tidegate.errors import ErrorCode, NoCredentials
from tidegate.outbound.backends.secrets import CredentialsReader, SecretReader, without_credentials
from tidegate.outbound.http_client import HttpOptions
from tidegate.secret import Secret
from tidegate.secret_place import SecretPlace
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


def keyed(path: Path) -> dict[str, SecretPlace]:
    return {"key": SecretPlace(setting="secrets.key_file", file=path)}


async def test_headers_are_made_of_secrets_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "key"
    headers = {"X-Api-Key": "{key}", "X-Both": "a{key}b{other}", "User-Agent": "{key}/1", "Accept": "text/plain"}
    reader = CredentialsReader(HttpOptions("http://user:{key}@h/", headers=headers, secrets=keyed(path)))
    keys = []
    for text in ("o:ne", "two"):
        path.write_text(text)
        credentials = await reader.read()
        keys.append(credentials.key)
        basic = base64.b64encode(f"user:{text}".encode()).decode()
        assert dict(credentials.headers) == {
            "Authorization": f"Basic {basic}",
            "X-Api-Key": text,
            "X-Both": f"a{text}b{{other}}",
            "User-Agent": f"{text}/1",
        }
    assert keys[0] != keys[1]


async def test_the_user_of_the_proxy_is_made_of_secrets_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY.decode())
    options = HttpOptions("https://h/", proxy="http://u:{key}@p:1", secrets=keyed(tmp_path / "key"))
    credentials = await CredentialsReader(options).read()
    basic = base64.b64encode(f"u:{CANARY.decode()}".encode()).decode()
    assert dict(credentials.headers) == {"Proxy-Authorization": f"Basic {basic}"}
    assert without_credentials(options).proxy == "http://p:1"
    assert CANARY.decode() not in credentials.scrubbed(f"no {CANARY.decode()}")


async def test_without_secrets_texts_are_literal(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    options = HttpOptions("http://u%7Bx:{key}@h/", headers={"X-Api-Key": "{key}"})
    credentials = await CredentialsReader(options).read()
    assert credentials.headers["X-Api-Key"] == "{key}"
    assert credentials.headers["Authorization"] == "Basic " + base64.b64encode(b"u{x:{key}").decode()
    assert credentials.key == b""


async def test_the_bearer_token_comes_before_a_header_and_that_before_the_address(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    for more, sent in [
        ({}, "Basic dTpw"),
        ({"headers": {"authorization": "Custom 1"}}, "Custom 1"),
        ({"headers": {"authorization": "Custom 1"}, "bearer_token_file": tmp_path / "token"}, "Bearer t"),
    ]:
        credentials = await CredentialsReader(HttpOptions("http://u:p@h/", **more)).read()  # type: ignore[arg-type]
        assert credentials.headers["Authorization"] == sent
        assert len(credentials.headers) == 1


async def test_a_user_name_from_a_secret_has_no_colon(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"a:{CANARY.decode()}")
    options = HttpOptions("http://{key}:p@h/", secrets=keyed(tmp_path / "key"))
    with pytest.raises(NoCredentials, match="without a colon") as caught:
        await CredentialsReader(options).read()
    assert CANARY.decode() not in str(caught.value)


async def test_the_token_follows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    modified = file.stat()
    reader = CredentialsReader(HttpOptions(url="http://h/", bearer_token_file=file))
    assert (await reader.read()).headers == {"Authorization": "Bearer first"}
    file.write_text("other\n")
    os.utime(file, ns=(modified.st_atime_ns, modified.st_mtime_ns))  # a rotation that no clock shows
    assert (await reader.read()).headers == {"Authorization": "Bearer other"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "got No such file or directory"),
        (b" \n", "got an empty file"),
        (b"two\nlines", "got several lines"),
        (b"a b", "got a space in it"),
        (b"\xc3\xa9", "got text that is not ASCII"),
        (b"x" * (TOKEN_BYTES + 1), "got more than 16384 bytes"),
    ],
)
async def test_a_file_without_a_token_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NoCredentials, match=message) as caught:
        await CredentialsReader(HttpOptions(url="http://h/", bearer_token_file=file)).read()
    assert str(caught.value).startswith(f"bearer_token_file: expected a bearer token in {file}")
    assert caught.value.code is ErrorCode.RPC_AUTH
    assert "two" not in str(caught.value)


@pytest.mark.timeout(10)
async def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    with pytest.raises(NoCredentials, match="got a named pipe, not a regular file"):
        await CredentialsReader(HttpOptions(url="http://h/", bearer_token_file=tmp_path / "token")).read()
