"""What is kept of a source on disk, and what is made of it after a restart.

A source has one row for each of its keys, or one with the key "" if it has none. A keyed source has a row with the key
"" too, without data: each good answer updates its `as_of`, even if no item changed.
"""

from collections.abc import Mapping

import msgspec

from tidegate.core.polling.decision import Save, SavedValue
from tidegate.core.polling.source_values import Items, Keys, Value


def to_save(event_type: str, items: Items, *, keys: Keys, gone: Keys, as_of: float, keyed: bool) -> Save:
    """Return what to write: the values of `keys` as of `as_of` (Unix seconds), and the keys of removed items."""
    values = [SavedValue(event_type, key or "", bytes(items[key]), as_of) for key in keys if key in items]
    if keyed:
        values.append(SavedValue(event_type, "", b"null", as_of))
    return Save(values, [(event_type, key or "") for key in gone])


def saved_value(values: Mapping[str, SavedValue], *, keyed: bool) -> Value | None:
    """Return the saved value; None if it was saved when the configuration had the other shape."""
    if keyed:
        return {key: msgspec.Raw(value.data) for key, value in values.items() if key} or None
    return msgspec.Raw(values[""].data) if "" in values else None


def saved_as_of(values: Mapping[str, SavedValue]) -> float:
    """Return when the saved value was last seen, in Unix seconds. There must be at least one value."""
    return values[""].as_of if "" in values else max(value.as_of for value in values.values())
