"""What is kept of a source on disk, and what is made of it after a restart.

Each good answer is saved, whatever becomes of its events. What it changes on disk is mostly what it publishes; but not
if the bus refused something before, since then more is published than has changed on disk, or less.

A source has one row for each of its keys, or one with the key "" if it has none. A keyed source has a row with the key
"" too, without data: each good answer updates its `as_of`, even if no item changed.
"""

from collections.abc import Mapping

import msgspec

from tidegate.core.polling.decision import Save, SavedValue
from tidegate.core.polling.source_values import Items, Keys, SourceSpec, Update, Value


def changes(update: Update, spec: SourceSpec, saved: Items | None, items: Items) -> tuple[Keys, Keys]:
    """Return which keys of a good answer, `items`, are not on disk as they are, and which on disk are gone.

    `update` is what the answer publishes. `saved` is what is on disk; None if it is what subscribers were told.
    """
    if not spec.keyed:
        return (), ()
    if saved is None:
        ours = [draft for draft in update.drafts if draft.type == spec.type]
        return [draft.key for draft in ours if not draft.gone], [draft.key for draft in ours if draft.gone]
    changed = [key for key, data in items.items() if saved.get(key) != data]
    return changed, [key for key in saved if key not in items]


def to_save(spec: SourceSpec, items: Items, *, keys: Keys, gone: Keys, as_of: float) -> Save:
    """Return what to write: the values of `keys` as of `as_of` (Unix seconds), and the keys of removed items.

    A value without keys is always written.
    """
    wanted = keys if spec.keyed else items
    values = [SavedValue(spec.type, key or "", bytes(items[key]), as_of) for key in wanted]
    if spec.keyed:
        values.append(SavedValue(spec.type, "", b"null", as_of))
    # A keyed source that had no keys before has the key None among those that are gone, and a row with the key "".
    return Save(values, [(spec.type, key or "") for key in gone if key is not None or not spec.keyed])


def forgotten(spec: SourceSpec, items: Items) -> Save:
    """Return what deletes all rows of a source that holds `items`."""
    return Save([], [(spec.type, key) for key in {"", *(key or "" for key in items)}])


def saved_value(values: Mapping[str, SavedValue], *, keyed: bool) -> Value | None:
    """Return the saved value; None if it was saved when the configuration had the other shape."""
    if keyed:
        return {key: msgspec.Raw(value.data) for key, value in values.items() if key} or None
    return msgspec.Raw(values[""].data) if "" in values else None


def saved_as_of(values: Mapping[str, SavedValue]) -> float:
    """Return when the saved value was last seen, in Unix seconds. There must be at least one value."""
    return values[""].as_of if "" in values else max(value.as_of for value in values.values())
