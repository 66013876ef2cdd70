"""Event types, patterns, and which pattern matches which types.

An event type is a dotted name (``system.status``). A pattern is an event type, or a prefix ending in ``.*``, which
matches every type below it at any depth, or ``*``, which matches everything. Knows nothing of events or clients.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Self

from tidegate.errors import TopicError

MAX_SEGMENTS = 8
MAX_CHARACTERS = 128
"""The limits of an event type and of a pattern. Part of the wire protocol."""

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
"""Types that every client may see."""

UNCOVERED_PATTERNS = UNRESTRICTED_TYPES | {
    "source.freshness",
    "rpc_error",
    "circuit_breaker.state",
    "circuit_breaker.*",
}
"""Patterns that any token may subscribe to.

The four patterns that are not in `UNRESTRICTED_TYPES` match events about other types. A client only gets those events
that are about a type that it may see.
"""

_INVISIBLE = frozenset({"Cc", "Cf"})
_TYPE = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_SHAPE = f"dotted segments of [a-z0-9_-]+, at most {MAX_SEGMENTS} segments and {MAX_CHARACTERS} characters"


def check_event_type(text: str) -> str:
    """Return `text` if it is an event type. Raises `TopicError` otherwise."""
    if len(text) > MAX_CHARACTERS or not _TYPE.fullmatch(text) or text.count(".") >= MAX_SEGMENTS:
        raise TopicError(f"expected an event type ({_SHAPE}), got {_shown(text)}")
    return text


def check_pattern(text: str) -> str:
    """Return `text` if it is a pattern. Raises `TopicError` otherwise."""
    if text == "*":
        return text
    name = text.removesuffix(".*")
    if len(text) > MAX_CHARACTERS or not _TYPE.fullmatch(name) or name.count(".") >= MAX_SEGMENTS:
        raise TopicError(
            f"expected a pattern: an event type ({_SHAPE}), a prefix ending in '.*', or '*'; got {_shown(text)}"
        )
    return text


def check_key(text: str) -> str:
    """Return `text` if it may be a key, which names an item of a type. Raises `TopicError` otherwise.

    Control and format characters (Unicode Cc and Cf) are refused: they are invisible, or change how a text is shown.
    """
    if text.isprintable():  # fast, but also false for some texts without a Cc or Cf character
        return text
    if invisible := next((each for each in text if unicodedata.category(each) in _INVISIBLE), None):
        raise TopicError(
            f"expected a key without control or format characters, got {_shown(text)} (U+{ord(invisible):04X})"
        )
    return text


def covers(pattern: str, other: str) -> bool:
    """Whether `pattern` matches everything that `other`, a pattern or an event type, matches."""
    if pattern in {"*", other}:
        return True
    return pattern.endswith(".*") and other.startswith(pattern[:-1])


class PatternSet:
    """An immutable, hashable set of patterns."""

    __slots__ = ("_exact", "_prefixes", "is_everything", "patterns")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = frozenset(patterns)
        self.is_everything = "*" in self.patterns
        """Whether every event type is matched."""
        self._prefixes = tuple(p[:-1] for p in self.patterns if p.endswith(".*"))
        self._exact = frozenset(p for p in self.patterns if not p.endswith("*"))

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Make a set of `texts`. Raises `TopicError` if one of them is not a pattern."""
        return cls([check_pattern(text) for text in texts])

    def matches(self, event_type: str) -> bool:
        """Whether any pattern matches `event_type`."""
        return self.is_everything or event_type in self._exact or event_type.startswith(self._prefixes)

    def covers(self, pattern: str) -> bool:
        """Whether a single pattern of the set matches everything that `pattern` matches."""
        return self.is_everything or any(covers(own, pattern) for own in self.patterns)

    def __or__(self, other: "PatternSet") -> "PatternSet":
        return PatternSet(self.patterns | other.patterns)

    def __and__(self, other: "PatternSet") -> "PatternSet":
        """A set that matches what both sets match. Two patterns overlap only where one of them covers the other."""
        return PatternSet([*filter(other.covers, self.patterns), *filter(self.covers, other.patterns)])

    def __sub__(self, other: "PatternSet") -> "PatternSet":
        return PatternSet(self.patterns - other.patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternSet) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __len__(self) -> int:
        """How many patterns there are."""
        return len(self.patterns)

    def __repr__(self) -> str:
        return f"PatternSet({self.sorted()})"

    def sorted(self) -> list[str]:
        """The patterns in alphabetical order, as replies list them."""
        return sorted(self.patterns)


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…")
