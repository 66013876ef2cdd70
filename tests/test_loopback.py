import pytest

from tidegate.loopback import LOOPBACK_NAMES, is_loopback


@pytest.mark.parametrize("host", [*LOOPBACK_NAMES, "LocalHost", "::1", "127.1.2.3"])
def test_what_only_this_machine_can_connect_to(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "[::]", "192.0.2.1", "localhost.example", "a.localhost"])
def test_what_others_can_connect_to(host: str) -> None:
    assert not is_loopback(host)
