"""Filling secrets into texts, and taking them out of messages again."""

import base64
import json
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tidegate.core.templates import masked, names
from tidegate.outbound.backends.credentials import Credentials
from tidegate.secret import Secret

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1)
PASSWORD = """p@ss:w/o?r#d&=+%41{key}"'\\<ä漢"""


def filling(**named: str) -> Credentials:
    return Credentials({name: Secret(value) for name, value in named.items()})


@given(PRINTABLE)
def test_any_secret_arrives_as_it_is(value: str) -> None:
    credentials = filling(key=value)
    assert credentials.text("a{key}b{other}") == f"a{value}b{{other}}"
    assert json.loads(credentials.in_json(b'{"k":["{key}",1.10,"{x}"]}')) == {"k": [value, 1.10, "{x}"]}
    assert URL(credentials.in_url("http://h/p?k={key}&l=1")).query["k"] == value
    assert parse_qsl(credentials.in_form({"u": "{key}", "{key}": "x"}).decode()) == [("u", value), (value, "x")]


def test_digits_beside_a_secret_stay() -> None:
    assert filling(key="v").in_json(b'{"n":1.10e5,"k":"{key}"}') == b'{"n":1.10e5,"k":"v"}'


def test_what_was_filled_in_is_not_searched_again() -> None:
    assert filling(a="{b}", b="c").text("{a}{b}") == "{b}c"


def test_a_url_that_yarl_has_encoded_is_filled_too() -> None:
    assert filling(key="a b").in_url(str(URL("http://h/?k={key}"))) == "http://h/?k=a%20b"


def test_the_key_tells_only_whether_secrets_are_the_same() -> None:
    assert Credentials().key == b""
    assert filling(a="1", b="2").key == filling(b="2", a="1").key
    assert filling(a="1").key != filling(a="2").key
    assert b"s3cr3t" not in filling(a="s3cr3t").key
    assert "s3cr3t" not in repr(filling(a="s3cr3t"))
    session = filling(a="1").granted({"token": Secret("t")}, headers={"Cookie": "SID=1"})
    assert session.key == filling(a="1").key
    assert session.text("{a}{token}") == "1t"


@pytest.mark.parametrize(
    "shape",
    [
        str,
        repr,
        quote,
        json.dumps,
        lambda text: repr(text.encode()),
        lambda text: quote(text, safe=""),
        lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: f"cut at the end: {text[:12]}",
    ],
)
def test_a_secret_that_comes_back_is_masked(shape: object) -> None:
    message = f"no user {shape(PASSWORD)} here"  # type: ignore[operator]
    scrubbed = filling(key=PASSWORD).scrubbed(message)
    assert "***" in scrubbed
    assert "p@ss" not in scrubbed
    assert "p%40ss" not in scrubbed


def test_headers_and_given_texts_are_masked_too() -> None:
    basic = base64.b64encode(b"user:password").decode()
    credentials = Credentials(headers={"Authorization": f"Basic {basic}"}, given=[Secret("from-a-cookie")])
    assert credentials.scrubbed(f"got {basic} and from-a-cookie") == "got *** and ***"


def test_a_secret_that_was_read_in_another_charset_is_scrubbed() -> None:
    mistaken = "pässwörd-ünd-mehr".encode().decode("latin-1")
    assert filling(key="pässwörd-ünd-mehr").scrubbed(f"no {mistaken}!") == "no ***!"


def test_a_very_short_secret_is_masked_where_it_stands_alone() -> None:
    assert filling(pin="12").scrubbed("pin 12 is not 1234") == "pin *** is not 1234"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{key}", "{key}"),
        ("Bearer {key}", "Bearer {key}"),
        ("abc{key}", "***{key}"),
        ("Token abc{key}def", "Token ***{key}***"),
        ("{other}", "***"),
        ("literal", "***"),
        ("{key}{key}", "{key}{key}"),
    ],
)
def test_places_are_shown_and_literals_masked(text: str, shown: str) -> None:
    assert masked(text, {"key"}) == shown


def test_names_are_found_at_any_depth() -> None:
    assert list(names({"{a}": ["x{b}", {"c": "{d}{e-f_1}"}], "n": 1, "{ no }": "{}"})) == ["a", "b", "d", "e-f_1"]
