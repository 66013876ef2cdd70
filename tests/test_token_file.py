from pathlib import Path

import pytest

from tidegate.token_file import TOKEN_BYTES, NoToken, read_token


def test_white_space_around_a_token_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n t0ken~! \n")
    assert read_token(tmp_path / "token") == "t0ken~!"


@pytest.mark.parametrize(
    ("content", "is_empty"), [(b"", True), (b" \n", True), (b"a b", False), (b"a\nb", False), (b"\xc3\xa9", False)]
)
def test_what_holds_no_token_is_told_from_what_is_empty(tmp_path: Path, content: bytes, is_empty: bool) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(NoToken, match="expected printable ASCII without spaces, got") as refused:
        read_token(tmp_path / "token")
    assert refused.value.is_empty is is_empty


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * TOKEN_BYTES)
    assert len(read_token(tmp_path / "token")) == TOKEN_BYTES
    with pytest.raises(OSError, match="more than 5 bytes"):
        read_token(tmp_path / "token", limit=5)
