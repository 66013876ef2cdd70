"""Text of others as it may be shown: nothing in it steers a terminal or changes the order of what is read.

Imports nothing of the package.
"""

import json
import unicodedata

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's control and format characters, lone surrogates, and its line and paragraph separators."""

_WHITE = "\t\n\r"


def printable(text: str, *, keep: str = "") -> str:
    r"""`text` with what steers as ``\x1b``, ``\n`` or ``\u202e``; the characters in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if steers(char) and char not in keep else char for char in text
    )


def printable_json(text: str) -> str:
    """JSON on one line, of the same value: what steers is escaped as JSON does it, line breaks between are spaces."""
    if text.isprintable():
        return text
    return "".join(" " if char in _WHITE else json.dumps(char)[1:-1] if steers(char) else char for char in text)


def steers(char: str) -> bool:
    """Whether a terminal, or the order of what is read, may obey `char`."""
    return not char.isprintable() and unicodedata.category(char) in _STEERING
