"""What is said of the place where a shape finds nothing."""

import msgspec
import pytest

from tidegate.cli.whereabouts import whereabouts
from tidegate.core.shaping import Shape

ANSWER = msgspec.Raw(
    b'{"pools":[{"name":"a","disks":{"d1":{"temp":30}}},{"name":"b","disks":{"d2":{"heat":1}}}],"n":1}'
)
POOLS = "a list of 2, the first of them an object with 'name' (a text), 'disks' (an object)"
NESTED = Shape(items=("/pools", "/disks"), key=(("name",), ()))


@pytest.mark.parametrize(
    ("shape", "lines"),
    [
        (Shape(), []),
        (Shape(select="/n"), []),
        (NESTED, []),
        (
            Shape(select="/pool"),
            [
                "in the answer there is an object with 'pools' (a list of 2), 'n' (a number)",
                'did you mean select "/pools"?',
            ],
        ),
        (
            Shape(select="/n", fields={"x": "/y"}),
            ["in the selected part there is a number"],
        ),
        (
            msgspec.structs.replace(NESTED, items=("/pools", "/disk")),
            [
                "in item 0 there is an object with 'name' (a text), 'disks' (an object)",
                'did you mean items "/disks"?',
            ],
        ),
        (
            msgspec.structs.replace(NESTED, fields={"temp": "/temp"}),
            ["in item 'd2' there is an object with 'heat' (a number)"],
        ),
        (
            Shape(items=("/n",), key=(("name",),)),
            ['at "/n" in the answer there is a number', 'did you mean items "/pools" (2 items)?'],
        ),
        (
            Shape(items=("/pools",)),
            [
                f'at "/pools" in the answer there is {POOLS}',
                "items of a list need a `key`: the name of what tells them apart",
            ],
        ),
        (
            Shape(items=("",), key=(("name",),)),
            [f"in item 'pools' there is {POOLS}"],
        ),
        (Shape(select="/x", missing="null"), []),
        (Shape(fields={"x": "/y"}, missing="leave_out"), []),
        (Shape(items=("/x",), key=(("name",),), missing="null"), []),
    ],
)
def test_where_something_is_missing_it_is_told_what_there_is(shape: Shape, lines: list[str]) -> None:
    assert whereabouts(ANSWER, shape) == lines


def test_nothing_is_said_of_what_is_nested_too_deep() -> None:
    deep = msgspec.Raw(b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}")
    assert whereabouts(deep, Shape(items=("/a",), key=(("name",),))) == []
