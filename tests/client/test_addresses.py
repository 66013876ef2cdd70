import pytest

from tidegate.client.addresses import api_url, names_this_machine, stream_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:1", "ws://h:1/ws"),
        ("https://h/", "wss://h/ws"),
        ("h:1", "ws://h:1/ws"),
        ("ws://h:1/ws", "ws://h:1/ws"),
        ("https://h/prefix/", "wss://h/prefix/ws"),
        ("wss://h/prefix/ws?token=t#x", "wss://h/prefix/ws?token=t"),
        ("http://[::1]:1", "ws://[::1]:1/ws"),
    ],
)
def test_every_way_to_write_an_address_leads_to_the_stream(url: str, expected: str) -> None:
    assert stream_url(url, types=None, since=None) == expected


def test_types_and_since_win_over_those_of_the_address() -> None:
    url = stream_url("ws://h/ws?types=x&since=e:1&token=t", types=["a.*", "b"], since="e:2")
    assert url == "ws://h/ws?types=a.*,b&since=e:2&token=t"


def test_no_types_is_not_the_defaults() -> None:
    assert stream_url("ws://h", types=[], since=None) == "ws://h/ws?types="


@pytest.mark.parametrize("url", ["", "http://", "ftp://h", "http://h:port", "http://h:70000"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the port's message is the standard library's
        stream_url(url, types=None, since=None)


def test_the_api_lies_beside_the_stream() -> None:
    assert api_url("wss://h/prefix/ws?types=a", "/readyz") == "https://h/prefix/readyz"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]", True),
        ("http://localhost", True),
        ("http://a.localhost", True),
        ("http://192.0.2.1", False),
    ],
)
def test_loopback_needs_no_proxy(url: str, expected: bool) -> None:
    assert names_this_machine(url) is expected
