"""Makes the data of a source of a backend's answer: `shaped` by a `Shape`, `settled` beside what is held.

All of it works on JSON as raw text: values are never turned into Python objects and back, so numbers keep their digits.
Results never share memory with the answer that they were cut from, so a small part does not keep a large answer alive.
What it takes must be compact JSON (`tidegate.core.payload.compact`); what it returns is.

An object may have the same name twice. The data keeps both. Where a pointer names one of them, it is the last one.
Where the members of an object are items, a repeated name is refused.
"""

from tidegate.core.shaping.fields import Missing
from tidegate.core.shaping.ignoring import settled
from tidegate.core.shaping.lookup import select
from tidegate.core.shaping.pointer import check_pointer
from tidegate.core.shaping.shape import Shape, shaped

__all__ = ["Missing", "Shape", "check_pointer", "select", "settled", "shaped"]
