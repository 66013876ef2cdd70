"""Which ids of requests are taken over, and what those are that are made."""

import pytest

from tidegate.core.access.grant import Grant
from tidegate.runtime.access import Gate


class Open:
    def verify(self, token: str) -> Grant:
        del token
        return Grant()


@pytest.mark.parametrize(
    ("peer", "sent", "is_taken"),
    [
        ("127.0.0.1", b"a", True),
        ("127.0.0.1", b"A-z_0.9" * 9, True),
        ("::1", b"trace-1", True),
        ("10.0.0.7", b"trace-1", True),
        ("10.0.1.7", b"trace-1", False),
        ("203.0.113.7", b"trace-1", False),
        ("127.0.0.1", b"x" * 65, False),
        ("127.0.0.1", b"", False),
        ("127.0.0.1", b"two words", False),
        ("127.0.0.1", b"a\xff", False),
        ("127.0.0.1", b"a\n", False),
        ("127.0.0.1", None, False),
        ("", b"trace-1", False),
    ],
)
def test_only_of_trusted_peers_and_well_formed(peer: str, sent: bytes | None, is_taken: bool) -> None:
    gate = Gate(authenticator=Open(), bound_host="127.0.0.1", trusted_proxies=["10.0.0.0/24"])
    found = gate.request_id(peer, sent)
    if is_taken:
        assert sent is not None
        assert found == sent.decode()
    else:
        assert len(found) == 16
        assert int(found, 16) >= 0


def test_those_that_are_made_differ() -> None:
    gate = Gate(authenticator=Open(), bound_host="127.0.0.1")
    assert len({gate.request_id("127.0.0.1", None) for _ in range(10_000)}) == 10_000
