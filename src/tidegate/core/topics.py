"""Event types, patterns, and which pattern matches what.

An event type is a dotted name (``system.status``); a pattern is an event type, a prefix ending in ``.*`` that
stands for every type below it at any depth, or ``*`` for everything. Knows nothing of events or clients.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Self

from tidegate.errors import TopicError

MAX_SEGMENTS = 8
MAX_CHARACTERS = 128

BUILT_IN_TYPES = frozenset({"circuit_breaker.state", "source.freshness", "rpc_error", "heartbeat", "notification"})
"""Types that only the gateway itself publishes."""

RESERVED_TYPES = BUILT_IN_TYPES | {
    "welcome",
    "subscribed",
    "synced",
    "unsubscribed",
    "authenticated",
    "pong",
    "error",
    "gap",
    "connection_error",
}
"""Names that neither a source nor a publisher may use."""

UNRESTRICTED_TYPES = frozenset({"heartbeat", "notification"})
"""Types that everyone may see."""

UNCOVERED_PATTERNS = UNRESTRICTED_TYPES | {
    "source.freshness",
    "rpc_error",
    "circuit_breaker.state",
    "circuit_breaker.*",
}
"""Patterns that need no coverage by a token; of the last four a client sees what speaks of a type that it may see."""

_UNSEEN = frozenset({"Cc", "Cf"})
_TYPE = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_SHAPE = f"dotted segments of [a-z0-9_-]+, at most {MAX_SEGMENTS} segments and {MAX_CHARACTERS} characters"


def check_event_type(text: str) -> str:
    """Return `text` if it is an event type; raise `TopicError` otherwise."""
    if len(text) > MAX_CHARACTERS or not _TYPE.fullmatch(text) or text.count(".") >= MAX_SEGMENTS:
        raise TopicError(f"expected an event type ({_SHAPE}), got {_shown(text)}")
    return text


def check_pattern(text: str) -> str:
    """Return `text` if it is a pattern; raise `TopicError` otherwise."""
    if text == "*":
        return text
    name = text.removesuffix(".*")
    if len(text) > MAX_CHARACTERS or not _TYPE.fullmatch(name) or name.count(".") >= MAX_SEGMENTS:
        raise TopicError(
            f"expected a pattern: an event type ({_SHAPE}), a prefix ending in '.*', or '*'; got {_shown(text)}"
        )
    return text


def check_key(text: str) -> str:
    """Return `text` if it can name something inside a type; raise `TopicError` otherwise.

    Control and format characters (Unicode Cc and Cf) change how a name is shown, or show nothing at all.
    """
    if text.isprintable():  # true of nothing that is Cc or Cf, and quickly found
        return text
    if unseen := next((sign for sign in text if unicodedata.category(sign) in _UNSEEN), None):
        raise TopicError(
            f"expected a key without control or format characters, got {_shown(text)} (U+{ord(unseen):04X})"
        )
    return text


def covers(pattern: str, other: str) -> bool:
    """Whether `pattern` matches everything that `other`, a pattern or an event type, matches."""
    if pattern in {"*", other}:
        return True
    return pattern.endswith(".*") and other.startswith(pattern[:-1])


class PatternSet:
    """An immutable set of patterns. Equal sets are equal and hash alike, whatever order they came in."""

    __slots__ = ("_exact", "_prefixes", "is_everything", "patterns")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = frozenset(patterns)
        self.is_everything = "*" in self.patterns
        """Whether every event type is matched."""
        self._prefixes = tuple(p[:-1] for p in self.patterns if p.endswith(".*"))
        self._exact = frozenset(p for p in self.patterns if not p.endswith("*"))

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Check every text first, so that the result is all of them or `TopicError`."""
        return cls([check_pattern(text) for text in texts])

    def matches(self, event_type: str) -> bool:
        """Whether any pattern matches `event_type`."""
        return self.is_everything or event_type in self._exact or event_type.startswith(self._prefixes)

    def covers(self, pattern: str) -> bool:
        """Whether one pattern of the set matches everything that `pattern` matches."""
        return self.is_everything or any(covers(own, pattern) for own in self.patterns)

    def __or__(self, other: "PatternSet") -> "PatternSet":
        return PatternSet(self.patterns | other.patterns)

    def __sub__(self, other: "PatternSet") -> "PatternSet":
        return PatternSet(self.patterns - other.patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternSet) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __len__(self) -> int:
        return len(self.patterns)

    def __repr__(self) -> str:
        return f"PatternSet({self.sorted()})"

    def sorted(self) -> list[str]:
        """The patterns in the order in which replies list them."""
        return sorted(self.patterns)


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…")
