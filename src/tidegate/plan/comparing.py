"""The differences between two plans, value by value."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidegate.core.masking import Masked
from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.plan.model import Plan


class Change(msgspec.Struct, frozen=True):
    """A value that differs: its dotted `path`, and its text in each plan; None if the plan does not have it.

    Secrets are masked, so `before` and `after` may be the same text although the values differ.
    """

    path: str
    before: str | None
    after: str | None


class Leaf(msgspec.Struct, frozen=True):
    """A value in a plan that has no named values inside it, and its text with secrets masked."""

    value: object
    shown: str


def changes(old: Plan, new: Plan) -> list[Change]:
    """List every value that differs, in the order of the plan; values that only `new` has come last."""
    before, after = dict(_leaves("", old, old)), dict(_leaves("", new, new))
    found = []
    for path in before | after:
        was, is_ = before.get(path), after.get(path)
        if was is None or is_ is None or was.value != is_.value:
            found.append(Change(path, was.shown if was else None, is_.shown if is_ else None))
    return found


def _leaves(path: str, value: object, shown: object) -> Iterator[tuple[str, Leaf]]:
    """Yield the leaves of `value` with their paths. `shown` is `value` with its secrets masked."""
    match value:
        case msgspec.Struct() if value.__struct_fields__:
            seen = value.public() if isinstance(value, Masked) else {}
            for name, inner in msgspec.structs.asdict(value).items():
                yield from _leaves(f"{path}.{name}".lstrip("."), inner, seen.get(name, inner))
        case tuple() if all(isinstance(each, msgspec.Struct) for each in value):
            named = {_name(each, number): each for number, each in enumerate(value)}
            yield path, Leaf(list(named), ", ".join(named))  # so that a change of only their order is found too
            for name, each in named.items():
                yield from _leaves(f"{path}.{name}", each, each)
        case _:
            yield path, Leaf(value, _text(shown))


def _name(value: object, number: int) -> str:
    """Return the path segment of a list item: its name if it has one, so that removing an item renumbers no other."""
    match value:
        case SourcePlan():
            return value.spec.type
        case _:
            return str(getattr(value, "name", number))


def _text(value: object) -> str:
    match value:
        case frozenset():
            return ", ".join(sorted(map(str, value)))
        case Path():
            return str(value)
        case _:
            return repr(value)
