"""Shaping against a naive model that reads all of an answer, with numbers kept as text."""

import json
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from msgspec import Raw

from tidegate.core.payload import compact
from tidegate.core.shaping import Shape, select, settled, shaped
from tidegate.core.shaping.shape import Keyed
from tidegate.errors import InvalidResponse

NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
NAMES = st.sampled_from(["a", "b", "0", "1", "", "a/b", "m~n", 'q"', "é", "\\", "\n"])
SCALARS = NUMBERS | st.sampled_from(["null", "true", '""', '"x"', '"\\u00e9"'])


def _object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in pairs) + "}"


TEXTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(NAMES, inner), max_size=4).map(_object)
    ),
    max_leaves=15,
)
POINTERS = st.lists(NAMES, max_size=3).map(
    lambda steps: "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
)
MISSING = st.sampled_from(["error", "null", "leave_out"])
SHAPES = st.builds(
    lambda select, levels, fields, missing: Shape(
        select=select,
        items=None if levels is None else tuple(pointer for pointer, _ in levels),
        key=() if levels is None else tuple(tuple(parts) for _, parts in levels),
        fields=fields,
        missing=missing,
    ),
    POINTERS,
    st.none()
    | st.lists(st.tuples(POINTERS, st.lists(st.sampled_from(["a", "b", "/a/b"]), max_size=2)), min_size=1, max_size=2),
    st.none() | st.dictionaries(NAMES, POINTERS, min_size=1, max_size=4),
    MISSING,
)


def parsed(raw: Any) -> Any:
    return json.loads(bytes(raw), parse_int=lambda text: ("number", text), parse_float=lambda text: ("number", text))


NOTHING = object()


def at(value: Any, pointer: str) -> Any:
    for escaped in pointer.split("/")[1:]:
        step = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and step == str(int(step)) and int(step) < len(value):
            value = value[int(step)]
        else:
            return NOTHING
    return value


@given(TEXTS, SHAPES)
def test_anything_gives_compact_json_or_invalid_response(text: str, shape: Shape) -> None:
    try:
        value = shaped(Raw(text.encode()), shape, event_bytes=10_000)
    except InvalidResponse:
        return
    for each in [value] if isinstance(value, Raw) else value.values():
        assert bytes(compact(each)) == bytes(each)


KEYS = st.sampled_from(['"x"', '"y"', "1", "2"]) | st.sampled_from(
    ['"1"', "1.0", '"x/1"', '""', "null", '"\\u00e9"', '"\\u0007"', '"\\u00a0"']
)
PLACES = st.sampled_from(["/a", "/b", "/c", "/a/b", "/a/0", "/b/1", "", "/id", "/m~1n"])
MEMBERS = st.sampled_from(["a", "b", "c", "0", "m/n", "é"])
PLAIN = st.sampled_from(
    ["1.50", "null", '{"b":-0.0,"0":2}', '{"b":[7]}', "[1e400,2]", "[]", '{"id":"y"}', '[{"id":8}]']
)
ITEMS = st.dictionaries(MEMBERS, PLAIN, max_size=4).map(lambda item: list(item.items()))
LISTS = st.lists(st.tuples(KEYS, ITEMS), max_size=3, unique_by=lambda item: item[0]).map(
    lambda items: f"[{','.join(_object([('id', key), *pairs]) for key, pairs in items)}]"
)
OBJECTS = st.lists(st.tuples(MEMBERS, ITEMS.map(_object) | PLAIN), max_size=3).map(_object)
WAYS = st.sampled_from(
    [
        ("%s", "", ("",), (("id",),)),
        ("%s", "", ("",), ()),
        ('{"l":%s}', "", ("/l",), (("id",),)),
        ('{"l":%s}', "/l", ("",), (("id", "/a"),)),
        ('[0,{"l":%s}]', "/1", ("/l",), (("id",),)),
        ('{"l":[{"id":5,"l":%s}]}', "", ("/l", "/l"), (("id",), ("id",))),
        ('{"l":{"q":{"l":%s},"r":{"l":[]}}}', "", ("/l", "/l"), ((), ("id",))),
        ('{"q":%s,"r":{}}', "", ("", ""), ((), ())),
        ("%s", "", ("", "/a"), (("id",), ())),
    ]
)


@given(
    WAYS,
    LISTS | OBJECTS | TEXTS,
    st.none() | st.dictionaries(NAMES, PLACES, min_size=1, max_size=3),
    MISSING,
    st.sampled_from([99, 20]),
)
def test_items_are_the_same_whether_made_at_once_or_one_by_one(
    way: Any, inner: str, fields: dict[str, str] | None, missing: Any, event_bytes: int
) -> None:
    around, select, items, key = way
    raw = Raw((around % inner).encode())
    keyed = Keyed(select, items, key, missing, None if fields is None else tuple(fields.items()))
    at_once = keyed.at_once(raw, event_bytes=event_bytes)
    try:
        one_by_one = keyed.one_by_one(raw, event_bytes=event_bytes)
    except InvalidResponse:
        assert at_once is None
    else:
        event("odd" if at_once is None else "as one expects" if at_once else "no items")
        assert at_once is None or list(at_once.items()) == list(one_by_one.items())


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('{"l":[{"id":1,"a":{"b":1}},{"id":"x","a":null,"c":2}]}', Shape(items=("/l",), key=(("id",),))),
        (
            '{"l":[{"id":1,"a":1},{"id":2,"a":2}]}',
            Shape(select="/l", items=("",), key=(("id", "a"),), fields={"id": "/id"}),
        ),
        ('{"x":{"a":{"b":1}},"y":{"a":{"b":2}}}', Shape(items=("",), fields={"a": "/a", "b": "/a/b"})),
        ('{"x":{"a":null},"y":{"a":{"b":2}}}', Shape(items=("",), fields={"b": "/a/b"}, missing="null")),
        ('{"x":{"a":null,"c":1}}', Shape(items=("",), fields={"b": "/a/b", "c": "/c"}, missing="leave_out")),
        ('[{"v":[1,"a"]},{"v":[2,"b"]}]', Shape(items=("",), key=(("/v/0",),), fields={"v": "/v/1"})),
        ('{"p":{"q":{"l":[{"id":1}]},"r":{"l":[]}}}', Shape(items=("/p", "/l"), key=((), ("id",)))),
    ],
)
def test_items_of_an_answer_as_one_expects_are_made_at_once(text: str, shape: Shape) -> None:
    assert shape.items is not None
    fields = None if shape.fields is None else tuple(shape.fields.items())
    keyed = Keyed(shape.select, shape.items, shape.key, shape.missing, fields)
    made = keyed.at_once(Raw(text.encode()), event_bytes=1000)
    assert made is not None
    assert list(made.items()) == list(keyed.one_by_one(Raw(text.encode()), event_bytes=1000).items())


@given(TEXTS, POINTERS, st.dictionaries(NAMES, POINTERS, min_size=1, max_size=4), MISSING)
def test_fields_are_those_of_a_naive_model(text: str, pointer: str, fields: dict[str, str], missing: Any) -> None:
    part = at(parsed(text.encode()), pointer)
    found = {name: at(None if part is NOTHING else part, place) for name, place in fields.items()}
    shape = Shape(select=pointer, fields=fields, missing=missing)
    if missing == "error" and (part is NOTHING or NOTHING in found.values()):
        with pytest.raises(InvalidResponse, match="got nothing at step"):
            shaped(Raw(text.encode()), shape, event_bytes=10_000)
        return
    if missing == "leave_out":
        found = {name: value for name, value in found.items() if value is not NOTHING}
    expected = {name: None if value is NOTHING else value for name, value in found.items()}
    made = shaped(Raw(text.encode()), shape, event_bytes=10_000)
    assert isinstance(made, Raw)
    assert parsed(made) == expected
    assert list(parsed(made)) == list(expected)


@given(NUMBERS)
def test_no_digit_changes(number: str) -> None:
    raw = Raw(f'{{"l":[{{"id":"x","v":{{"n":{number}}}}}]}}'.encode())
    shape = Shape(items=("/l",), key=(("id",),), fields={"n": "/v/n"})
    made = shaped(raw, shape, event_bytes=1000)
    assert isinstance(made, dict)
    assert bytes(made["x"]) == f'{{"n":{number}}}'.encode()


KEYED = [
    ("names", '{"c":{"a":{"v":1},"b":{"v":2}}}', Shape(items=("/c",)), {"a": '{"v":1}', "b": '{"v":2}'}),
    ("compound", '[{"h":"/","n":{"i":3}}]', Shape(items=("",), key=(("h", "/n/i"),)), {"//3": '{"h":"/","n":{"i":3}}'}),
    (
        "nested",
        '{"p":[{"n":"t","d":[{"id":1},{"id":2}]}]}',
        Shape(items=("/p", "/d"), key=(("n",), ("id",))),
        {"t/1": '{"id":1}', "t/2": '{"id":2}'},
    ),
    ("a part left out", '[{"n":"x"}]', Shape(items=("",), key=(("n", "m"),), missing="null"), {"x": '{"n":"x"}'}),
    ("nothing", "{}", Shape(items=("/no",), key=(("id",),), missing="null"), {}),
    ("null", '{"l":null}', Shape(items=("/l",), key=(("id",),), missing="leave_out"), {}),
    ("an empty list for an empty object", "[]", Shape(items=("",)), {}),
    ("escaped names", '{"\\u0061":1,"b":2}', Shape(items=("",)), {"a": "1", "b": "2"}),
]


@pytest.mark.parametrize(("text", "shape", "expected"), [each[1:] for each in KEYED], ids=[each[0] for each in KEYED])
def test_items_get_their_keys(text: str, shape: Shape, expected: dict[str, str]) -> None:
    made = shaped(Raw(text.encode()), shape, event_bytes=1000)
    assert isinstance(made, dict)
    assert {key: bytes(item).decode() for key, item in made.items()} == expected


REFUSED = [
    (
        '{"result":1,"arguments":{},"tag":2}',
        Shape(select="/argument"),
        r"step 1 \('argument'\): the object there has 'arguments', 'result', 'tag'$",
    ),
    ("{}", Shape(select="/x"), r"the object there is empty"),
    ("[1]", Shape(select="/1"), r"the list there has 1 items"),
    ("5", Shape(select="/x"), r"the value there is a number"),
    ('{"a":1,"a":2}', Shape(items=("",)), r"there once, got 'a' again"),
    ("[1]", Shape(items=("",)), r"an object whose names are the keys at '', got a list"),
    ('[{"id":1},{"id":"1"}]', Shape(items=("",), key=(("id",),)), r"its own 'id', got '1' again in item 1"),
    ('[{"x":1}]', Shape(items=("",), key=(("a", "b"),), missing="null"), r"item 0 to have a key, got none"),
    ('[{"id":true}]', Shape(items=("",), key=(("id",),), missing="null"), r"string or an integer as 'id'"),
    ('{"l":"x"}', Shape(items=("/l",), key=(("id",),), missing="null"), r"a list or an object at '/l', got a text"),
]


@pytest.mark.parametrize(("text", "shape", "message"), REFUSED)
def test_says_what_is_wrong_and_what_is_there(text: str, shape: Shape, message: str) -> None:
    with pytest.raises(InvalidResponse, match=message):
        shaped(Raw(text.encode()), shape, event_bytes=1000)


@pytest.mark.parametrize("fields", [None, {"v": "/v", "w": "/v"}])
def test_an_item_may_not_be_longer_than_an_event(fields: dict[str, str] | None) -> None:
    shape = Shape(items=("",), key=(("id",),), fields=fields)
    answer = Raw(b'[{"id":1,"v":1},{"id":2,"v":"xxxxx"}]')
    with pytest.raises(InvalidResponse, match="expected at most 15 bytes"):
        shaped(answer, shape, event_bytes=15)


def test_nothing_keeps_the_answer_alive() -> None:
    answer = bytearray(b'{"l":[{"id":1,"v":2}]}')
    made = [
        select(Raw(answer), "/l"),
        shaped(Raw(answer), Shape(select="/l"), event_bytes=100),
        shaped(Raw(answer), Shape(items=("/l",), key=(("id",),)), event_bytes=100),
        shaped(Raw(answer), Shape(items=("/l",), key=(("id",),), fields={"v": "/v"}), event_bytes=100),
    ]
    answer.append(0)  # BufferError while a view of it is alive
    assert len(made) == 4


@pytest.mark.parametrize(
    ("new", "held", "ignore", "same"),
    [
        ('{"a":1,"t":2}', '{"a":1,"t":9}', ("/t",), True),
        ('{"a":1,"t":2}', '{"a":1}', ("/t",), True),
        ('{"a":2,"t":2}', '{"a":1,"t":2}', ("/t",), False),
        ('{"a":1.0,"t":2}', '{"a":1,"t":3}', ("/t",), False),
        ('{"a":{"t":1,"x":1}}', '{"a":{"t":2,"x":1}}', ("/a/t",), True),
        ('{"a":{"t":1,"x":1}}', '{"a":{"t":2,"x":2}}', ("/a/t", "/a"), True),
        ("[1,2]", "[2]", ("/0",), False),
        ("[1]", "[]", ("/0",), True),
        ('{"0":1}', "[1]", ("/0",), False),
        ("1", "2", ("/t",), False),
        ("1", "1", ("/t",), True),
        ("1", "2", ("",), True),
        ("1", "2", (), False),
        ('{"a":{"t":1,"u":1,"x":1}}', '{"a":{"t":2,"u":2,"x":1}}', ("/a/t", "/a/u"), True),
        ('{"a":{"t":1,"u":1,"x":1}}', '{"a":{"t":2,"u":2,"x":1}}', ("/a/t",), False),
        ('{"a":1,"b":1}', '{"b":1,"a":1}', ("/t",), False),
        ('{"a":1}', '{"b":1}', ("/t",), False),
        ('{"a":1}', "null", ("/a",), False),
    ],
)
def test_what_differs_only_at_ignored_places_stays_as_it_is_held(
    new: str, held: str, ignore: tuple[str, ...], same: bool
) -> None:
    was = Raw(held.encode())
    items = settled({None: Raw(new.encode())}, {None: was}, ignore)
    assert (items[None] is was) == same
    assert bytes(items[None]).decode() == (held if same else new)


def test_only_an_item_with_the_same_key_stays_as_it_is_held() -> None:
    items = settled({"a": Raw(b'{"t":1}'), "b": Raw(b'{"t":2}')}, {"b": Raw(b'{"t":3}'), "c": Raw(b"1")}, ("/t",))
    assert items == {"a": Raw(b'{"t":1}'), "b": Raw(b'{"t":3}')}


def test_what_is_nested_too_deep_to_be_compared_is_new() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    new = Raw(b'{"t":1,"d":%b}' % deep)
    assert settled({None: new}, {None: Raw(b'{"t":2,"d":%b}' % deep)}, ("/t",)) == {None: new}
