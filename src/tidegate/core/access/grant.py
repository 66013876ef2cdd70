"""What a client may do: the roles and patterns of its token."""

import enum
from typing import Literal

import msgspec

from tidegate.core.events import About
from tidegate.core.topics import UNCOVERED_PATTERNS, UNRESTRICTED_TYPES, PatternSet

EVERYTHING = PatternSet(["*"])


class Role(enum.StrEnum):
    """A permission that a route requires."""

    SUBSCRIBER = "subscriber"
    PUBLISHER = "publisher"
    ADMIN = "admin"


RoleName = Literal["subscriber", "publisher", "admin"]
"""A `Role` as text, in the configuration and on the command line."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What the bearer of a token may do.

    `allowed` are the event types that it may see and publish. `expires_at` is in Unix seconds; None: it never expires.
    `name` identifies the token in logs.
    """

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
    """Which types, breakers and backends of the configuration a token covers.

    A token covers a breaker if it covers at least one of its sources. It covers a backend if it covers all its sources.
    """

    types: PatternSet
    breakers: frozenset[str]
    backends: frozenset[str]


def may_see(allowed: PatternSet, event_type: str, about: About) -> bool:
    """Whether a token that covers `allowed` may see an event of `event_type`.

    `about` are the types that the event gives information about, such as the type of a source. The event may be seen if
    the token covers one of them. If `about` is None, the event's own type decides.
    """
    if about is None:
        return event_type in UNRESTRICTED_TYPES or allowed.matches(event_type)
    if len(about) == 1:  # the usual case, checked for each retained value: `any` takes twice as long
        [one] = about
        return allowed.matches(one)
    return any(map(allowed.matches, about))


UNRESTRICTED = Grant()
"""The grant of every client if no authentication is configured."""
