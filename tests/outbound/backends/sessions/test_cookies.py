"""Cookies of a session go back to where they came from, and nowhere else."""

import pytest
from yarl import URL

from tidegate.outbound.backends.sessions.cookies import COOKIES, COOKIES_BYTES, Cookies

HERE = URL("http://127.0.0.1:8080/api/v2/auth/login")


def taken(*fields: str, url: URL = HERE) -> Cookies:
    cookies = Cookies()
    cookies.take(url, fields)
    return cookies


@pytest.mark.parametrize(
    ("field", "target", "sent"),
    [
        ("SID=a+b/c=; HttpOnly; path=/", "http://127.0.0.1:8080/api", "SID=a+b/c="),
        ("SID=1; Path=/json", "http://127.0.0.1:8080/json/x", "SID=1"),
        ("SID=1; Path=/json", "http://127.0.0.1:8080/other", None),
        ("SID=1; Path=/", "http://127.0.0.2:8080/", None),
        ("SID=1; Path=/; Domain=example.com", "http://127.0.0.1:8080/", None),
        ("SID=1; Path=/; Secure", "http://127.0.0.1:8080/", None),
        ("SID=1; Path=/; Max-Age=0", "http://127.0.0.1:8080/", None),
        ("SID=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "http://127.0.0.1:8080/", None),
        ("SID=1; Path=/; Expires=Thu, 01 Jan 2099 00:00:00 GMT", "http://127.0.0.1:8080/", "SID=1"),
        ("", "http://127.0.0.1:8080/", None),
        (";;;=", "http://127.0.0.1:8080/", None),
    ],
)
def test_a_cookie_is_sent_where_it_belongs(field: str, target: str, sent: str | None) -> None:
    assert taken(field).header(URL(target)) == sent


@pytest.mark.parametrize(("field", "sent"), [("SID=1; Path=/", None), ("SID=1; Path=/; Domain=nas.example", "SID=1")])
def test_a_host_below_gets_a_cookie_only_with_a_domain(field: str, sent: str | None) -> None:
    cookies = taken(field, url=URL("http://nas.example/"))
    assert cookies.header(URL("http://sub.nas.example/")) == sent
    assert cookies.header(URL("http://nas.example/")) == "SID=1"


def test_an_answer_without_a_cookie_leaves_the_jar_empty() -> None:
    assert not taken()
    assert taken("SID=1; path=/")


def test_a_newer_value_replaces_an_older_one_and_can_be_scrubbed() -> None:
    cookies = taken("SID=old; path=/", "lang=en; path=/")
    cookies.take(HERE, ["SID=new; path=/"])
    assert cookies.header(HERE) in {"SID=new; lang=en", "lang=en; SID=new"}
    assert {secret.reveal() for secret in cookies.values()} == {"new", "en"}
    assert "new" not in repr(cookies.values())


def test_a_server_that_always_sets_new_cookies_does_not_fill_the_memory_and_the_field() -> None:
    cookies = taken("SID=1; path=/")
    for at in range(3):
        cookies.take(HERE, [f"c{at}-{number}={'x' * 100}; Path=/" for number in range(COOKIES)])
    sent = cookies.header(HERE) or ""
    assert sent.split("=")[0] == "c2-0"
    assert sent.count(";") == COOKIES - 1


def test_cookies_are_kept_as_far_as_a_server_would_take_them_in_one_field() -> None:
    cookies = taken(*(f"c{number}={'x' * 4000}; Path=/" for number in range(10)))
    assert len(cookies.header(HERE) or "") < COOKIES_BYTES + 100
    assert taken(f"SID={'x' * COOKIES_BYTES}; Path=/").header(HERE) is None
