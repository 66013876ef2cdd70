"""Regular expressions of the configuration: what one must be, and the engine that matches it.

The engine is the package `regex`, and not `re`: a search stops after a given time. With `re`, a pattern that
backtracks without end would hold up the whole gateway, also from a thread.
"""

from typing import TYPE_CHECKING

from tidegate.extras import require

if TYPE_CHECKING:
    import regex

__all__ = ["compiled"]


def compiled(text: str) -> "regex.Pattern[str]":
    """Compile `text`, which must have a named group. In it, ``^`` and ``$`` are the ends of any line.

    Raises `ValueError`, which says what came instead, and `MissingExtra`.
    """
    require("gateway")
    import regex  # takes some 20 ms, and most configurations have no pattern

    try:
        pattern = regex.compile(text, regex.MULTILINE)
    except (regex.error, RecursionError, MemoryError, OverflowError) as exc:
        reason = str(exc) if isinstance(exc, regex.error) else "it is too large"
        raise ValueError(f"one that cannot be compiled: {reason}") from exc
    if not pattern.groupindex:
        raise ValueError("one without a named group")
    return pattern
