"""A secret value that cannot be shown by accident.

Whatever prints, logs, formats, encodes or pickles it gets `MASK` or an error. Only `Secret.reveal` gives the value.
Imports nothing of the package.
"""

import hmac
from collections.abc import Callable
from typing import Any, NoReturn, Self

MASK = "***"
"""Stands for a secret in everything that is shown, so that a reader can still see that there was one."""


class Secret:
    """Text that must not be shown, such as a password.

    It compares with other secrets only, in a time that does not depend on where they differ. It has no order, no length
    and no `__dict__`, and it cannot be pickled. Copying it returns the same object: it does not change.
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        # In a closure, the text is not among the values of the object that debuggers and pretty-printers walk over.
        self._reveal: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """Return the text itself. Use it where it is sent, and keep it nowhere."""
        return self._reveal()

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.reveal()))

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("expected a value that may be shown, got a secret, which cannot be pickled")
