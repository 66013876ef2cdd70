"""What a caller may do: the roles and patterns that its token carries."""

import enum
from typing import Literal

import msgspec

from tidegate.core.events import About
from tidegate.core.topics import UNCOVERED_PATTERNS, UNRESTRICTED_TYPES, PatternSet

EVERYTHING = PatternSet(["*"])


class Role(enum.StrEnum):
    """What a route asks for."""

    SUBSCRIBER = "subscriber"
    PUBLISHER = "publisher"
    ADMIN = "admin"


RoleName = Literal["subscriber", "publisher", "admin"]
"""A `Role` as people write it: in the configuration and on the command line."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Roles, the event types that may be seen, and until when (Unix seconds; None: for ever). `name` is for logs."""

    name: str = "anonymous"
    roles: frozenset[Role] = frozenset(Role)
    allowed: PatternSet = EVERYTHING
    expires_at: float | None = None

    def covers(self, pattern: str) -> bool:
        """Whether `pattern` may be subscribed to."""
        return may_subscribe(self.allowed, pattern)


def may_subscribe(allowed: PatternSet, pattern: str) -> bool:
    """Whether a token that covers `allowed` may subscribe to `pattern`."""
    return pattern in UNCOVERED_PATTERNS or allowed.covers(pattern)


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What a token covers of what is configured.

    `breakers` serve at least one source that it covers; of the sources of `backends` it covers every one.
    """

    types: PatternSet
    breakers: frozenset[str]
    backends: frozenset[str]


def may_see(allowed: PatternSet, event_type: str, about: About) -> bool:
    """Whether a token that covers `allowed` may see an event of `event_type` that speaks of the types `about`."""
    if about is None:
        return event_type in UNRESTRICTED_TYPES or allowed.matches(event_type)
    if len(about) == 1:  # nearly always, and asked for each retained value: `any` alone would double the price
        [one] = about
        return allowed.matches(one)
    return any(map(allowed.matches, about))


UNRESTRICTED = Grant()
"""What everyone has where no authentication is configured."""
