"""Makes an object of the values at several pointers: the data of a source with `fields`.

The values are copied as text, so numbers keep their digits, and the object does not keep the response alive.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from tidegate.core.shaping.lookup import Found
from tidegate.errors import InvalidResponse

Missing = Literal["error", "null", "leave_out"]
"""What becomes of a value that is not there: the answer is refused, null takes its place, or it is left out."""

NULL = msgspec.Raw(b"null")


class Fields:
    """An object that has yet to be filled. `fields` are its names, with the pointers to their values."""

    __slots__ = ("_fields", "_missing", "pointers")

    def __init__(self, fields: Mapping[str, str], missing: Missing) -> None:
        self.pointers = tuple(fields.values())
        self._fields = [(msgspec.json.encode(name) + b":", pointer) for name, pointer in fields.items()]
        self._missing = missing

    def filled(self, found: Found, no_value: Callable[[str], InvalidResponse]) -> msgspec.Raw:
        """Return the object as compact JSON, with its names in the order of the configuration.

        Raises ``no_value(pointer)`` for a value that is not in `found`, if that is an error.
        """
        texts: list[bytes] = []
        for name, pointer in self._fields:
            value = found.get(pointer)
            if value is not None:
                texts.append(b"".join((name, value)))
            elif self._missing == "null":
                texts.append(name + b"null")
            elif self._missing == "error":
                raise no_value(pointer)
        return msgspec.Raw(b"{" + b",".join(texts) + b"}")
