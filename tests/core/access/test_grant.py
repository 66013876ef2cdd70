from typing import get_args

import pytest

from tidegate.core.access.grant import UNRESTRICTED, Grant, Role, RoleName
from tidegate.core.topics import PatternSet


def test_people_write_every_role_by_its_name() -> None:
    assert get_args(RoleName) == tuple(role.value for role in Role)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("system.status", True),
        ("system.*", True),
        ("system.a.*", True),
        ("log", True),
        ("log.a", False),
        ("*", False),
        ("circuit_breaker.*", True),
        ("circuit_breaker.state", True),
        ("circuit_breaker.other", False),
        ("heartbeat", True),
        ("notification", True),
        ("source.freshness", True),
        ("rpc_error", True),
        ("source.*", False),
    ],
)
def test_what_a_grant_covers(pattern: str, expected: bool) -> None:
    assert Grant(allowed=PatternSet(["system.*", "log"])).covers(pattern) is expected


def test_without_authentication_everyone_may_do_everything() -> None:
    assert UNRESTRICTED.roles == frozenset(Role)
    assert UNRESTRICTED.covers("*")
    assert UNRESTRICTED.expires_at is None
