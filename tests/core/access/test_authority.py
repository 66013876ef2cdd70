from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.access.authority import (
    NO_ORIGIN,
    Authority,
    Origin,
    parse_address,
    parse_authority,
    parse_host,
    parse_origin,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gw.example", Authority("gw.example")),
        ("GW.Example.", Authority("gw.example")),
        ("gw.example.:8080", Authority("gw.example", 8080)),
        ("gw.example:", Authority("gw.example")),
        ("gw.example:00443", Authority("gw.example", 443)),
        ("_gw-1.example", Authority("_gw-1.example")),
        ("192.0.2.7:80", Authority("192.0.2.7", 80)),
        ("[2001:DB8:0:0::7]:80", Authority("[2001:db8::7]", 80)),
        ("[fe80::1%eth0]:80", Authority("[fe80::1]", 80)),
        ("[fe80::1%25eth0]", Authority("[fe80::1]")),
        ("[::ffff:192.0.2.7]", Authority("192.0.2.7")),
        ("x" * 253, Authority("x" * 253)),
    ],
)
def test_one_host_is_written_in_many_ways(text: str, expected: Authority) -> None:
    assert parse_authority(text) == parse_host(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        ":80",
        "gw.example..",
        ".gw.example",
        "gw example",
        "gw.example ",
        "me@gw.example",
        "gw.example/",
        "gw.example:x",
        "gw.example:65536",
        "gw.example:80:80",
        "gw.example, other.example",
        "b\u00fccher.example",
        "gw%2eexample",
        "[::1",
        "::1]",
        "[::1]x",
        "[192.0.2.7]",
        "[gw.example]",
        "[::1%]",
        "x" * 254,
    ],
)
def test_what_is_no_host(text: str) -> None:
    assert parse_authority(text) is None
    assert parse_host(text) is None


def test_a_configured_ipv6_address_needs_no_brackets() -> None:
    assert parse_host("2001:db8::7") == parse_host("[2001:db8::7]") == Authority("[2001:db8::7]")
    assert parse_host("fe80::1%eth0") == Authority("[fe80::1]")
    assert parse_authority("::1") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://app.example", Origin("https", "app.example", 443)),
        ("HTTPS://App.Example.:443", Origin("https", "app.example", 443)),
        ("https://app.example:", Origin("https", "app.example", 443)),
        ("http://app.example", Origin("http", "app.example", 80)),
        ("http://app.example:8080", Origin("http", "app.example", 8080)),
        ("http://[0:0::1]:80", Origin("http", "[::1]", 80)),
        ("app://x", Origin("app", "x", None)),
        ("chrome-extension://abcdefghijklmnop", Origin("chrome-extension", "abcdefghijklmnop", None)),
        ("null", NO_ORIGIN),
    ],
)
def test_one_origin_is_written_in_many_ways(text: str, expected: Origin) -> None:
    assert parse_origin(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.example",
        "://app.example",
        "https:",
        "https://",
        "https:/app.example",
        "https://app.example/",
        "https://app.example?x",
        "https://me@app.example",
        "https://app.example:0",
        "https://*.example",
        "https://b\u00fccher.example",
        "http://127.1",
        "http://2130706433",
        "http://127.0.0.01",
        "http://0x7f.1",
        "http://1.2.3.4.5",
        "file:///",
        "null://",
        "https://a.example https://b.example",
    ],
)
def test_what_no_browser_sends_as_an_origin(text: str) -> None:
    assert parse_origin(text) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:4711", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:4711", "fe80::1"),
    ],
)
def test_addresses_as_sockets_and_proxies_write_them(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize("text", ["", "unknown", "gw.example", "192.0.2", "192.0.2.7:x", "_hidden"])
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None


@given(st.text())
def test_no_text_is_too_much(text: str) -> None:
    for parse in (parse_authority, parse_host, parse_origin, parse_address):
        parse(text)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_is_itself_however_it_is_written(address: object, port: int) -> None:
    text = str(address)
    written = f"[{text}]" if ":" in text else text
    assert {parse_address(one) for one in (text, written, f"{written}:{port}")} == {
        getattr(address, "ipv4_mapped", None) or address
    }
