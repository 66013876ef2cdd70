"""What is masked wherever headers, addresses, parameters and lines are shown."""

import time

import pytest

from tidegate.core.masking import (
    _WORDS,
    is_secret_name,
    mask_fields,
    mask_headers,
    mask_options,
    mask_strings,
    mask_text,
    mask_url,
)


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "Sec-WebSocket-Protocol", "Api-Key"],
)
def test_credentials_are_masked_in_tables_pairs_and_lines_alike(name: str) -> None:
    assert mask_headers({name: "S"}) == {name: "***"}
    assert mask_fields({name: "S"}) == {name: "***"}
    assert mask_fields({"fields": [(name, "S"), (name.lower().encode(), b"S")]}) == {
        "fields": [[name, "***"], [name.lower(), "***"]]
    }
    for line in (f"> {name}: S=1; S=2", f"{{'{name}': 'S'}}", f"[(b'{name.lower()}', b'S')]", f'{{"{name}":"S"}}'):
        assert "S=" not in mask_text(line)
        assert "'S'" not in mask_text(line)
        assert '"S"' not in mask_text(line)
        assert "***" in mask_text(line)


@pytest.mark.parametrize("field", ["added", "changed", "keys", "kids", "needs_restart", "removed", "types"])
def test_two_names_are_not_taken_for_a_header_and_its_value(field: str) -> None:
    names = ["auth.tokens[1]", "sources.users"]
    assert mask_fields({field: names, "deeper": {field: tuple(names)}}) == {field: names, "deeper": {field: names}}


def test_only_headers_that_are_known_to_be_harmless_are_shown() -> None:
    shown = mask_headers({"Accept": "a", "content-type": "b", "User-Agent": "c", "X-Whatever": "S"})
    assert shown == {"Accept": "a", "content-type": "b", "User-Agent": "c", "X-Whatever": "***"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://u:p@h/a", "http://***@h/a"),
        ("http://u:p@p@h/a", "http://***@h/a"),
        ("http://h/a?b=c&d=e#f", "http://h/a?b=***&d=***#f"),
        ("http://h/?bare", "http://h/?***"),
        ("v1/query?query=up", "v1/query?query=***"),
        ("system.status", "system.status"),
        ("http://h/?", "http://h/?"),
    ],
)
def test_of_an_address_user_and_query_are_masked(url: str, expected: str) -> None:
    assert mask_url(url) == expected


def test_options_of_a_plug_in_are_shown_but_for_what_may_be_a_secret() -> None:
    options = {
        "host": "h",
        "password": "hunter2",
        "api_token": "{key}",
        "servers": [{"url": "tcp://user:pw@h/", "passwords": ["a", "{b}"], "port": 1}],
    }
    assert mask_options(options) == {
        "host": "h",
        "password": "***",
        "api_token": "{key}",
        "servers": [{"url": "tcp://***@h/", "passwords": ["***", "{b}"], "port": 1}],
    }


def test_every_text_of_parameters_is_masked_and_numbers_under_secret_names() -> None:
    params = {"a": "S", "b": [1, "S", {"c": "S", "d": True}], "password": 5, "n": None}
    assert mask_strings(params) == {"a": "***", "b": [1, "***", {"c": "***", "d": True}], "password": "***", "n": None}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET /ws?types=a&token=S&since=e:1", "GET /ws?types=a&token=***&since=e:1"),
        ("GET /?X-Amz-Security-Token=S", "GET /?X-Amz-Security-Token=***"),
        ("Authorization: Bearer S", "Authorization: Bearer ***"),
        ("bearer S, basic S", "bearer *** basic ***"),
        ("tidegate.v1, tidegate.token.S", "tidegate.v1, tidegate.token.***"),
        ("token='S'", "token='***'"),
        ("expected a bearer token in /run/t: one line", "expected a bearer token in /run/t: one line"),
        ("auth.tokens[0].token_file: expected a file", "auth.tokens[0].token_file: expected a file"),
        ("bearer_token_file=/run/t", "bearer_token_file=/run/t"),
        ("http://127.0.0.1:1/a?b=c", "http://127.0.0.1:1/a?b=c"),
        ("expected a token, got none", "expected a token, got none"),
    ],
)
def test_lines_lose_their_credentials_and_nothing_else(line: str, expected: str) -> None:
    assert mask_text(line) == expected


@pytest.mark.parametrize("name", [*_WORDS.replace("[-_]?", "").split("|"), "API_KEY", "Access-Key", "Token"])
def test_every_name_of_a_secret_is_found_in_a_line(name: str) -> None:
    assert mask_text(f"got {name}=S") == f"got {name}=***"


@pytest.mark.parametrize("part", ["token", "a-", "x-auth-", "token ", "bearer ", "://", "authorization:", "=\"'"])
def test_no_text_takes_long(part: str) -> None:
    began = time.process_time()
    mask_text(part * (100_000 // len(part)))
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize("name", ["token", "X-Api-Key", "password", "access_key", "Sec-WebSocket-Protocol"])
def test_names_of_files_are_no_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert not is_secret_name(f"{name}_file")
