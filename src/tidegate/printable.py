"""Escapes untrusted text for display, so that it can neither control a terminal nor reorder the text around it.

Imports nothing of the package.
"""

import json
import unicodedata

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control and format characters, surrogates, line and paragraph separators."""

_WHITE = "\t\n\r"


def printable(text: str, *, keep: str = "") -> str:
    r"""Return `text` with control and format characters escaped, as ``\x1b`` or ``\u202e``, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if steers(char) and char not in keep else char for char in text
    )


def printable_json(text: str) -> str:
    """Return the JSON `text` on one line, with the same value. Control and format characters become JSON escapes."""
    if text.isprintable():
        return text
    # In valid JSON, raw tabs and line breaks stand only between tokens, where a space means the same.
    return "".join(" " if char in _WHITE else json.dumps(char)[1:-1] if steers(char) else char for char in text)


def steers(char: str) -> bool:
    """Return whether `char` may control a terminal or change the order of the displayed text."""
    return not char.isprintable() and unicodedata.category(char) in _STEERING
