"""The socket that a gateway listens on, and its URL."""

import socket

from tidegate.inbound.address import url_of


def test_a_link_local_address_is_told_with_its_zone() -> None:
    class Listener:
        def getsockname(self) -> tuple[str, int, int, int]:
            return ("fe80::7", 12080, 0, socket.if_nametoindex("lo"))

    assert url_of(Listener(), tls=False) == "http://[fe80::7%25lo]:12080"  # type: ignore[arg-type]
