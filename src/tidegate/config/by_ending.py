"""Types of values that depend on how their keys end, in a table whose keys the user chooses."""

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import msgspec


class ByEnding(NamedTuple):
    """A rule for the values of a table whose type depends on how their keys end. `hints` are the types, by ending."""

    hints: Mapping[str, Any]


def hint_for(key: str, hint: Any) -> Any:
    """Return the type of the value under `key` in a table whose values have the type `hint`."""
    extras = (meta.extra for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta))
    rule: ByEnding | None = next((extra["by_ending"] for extra in extras if extra and "by_ending" in extra), None)
    endings = {} if rule is None else rule.hints
    return next((found for ending, found in endings.items() if key.endswith(ending)), hint)
