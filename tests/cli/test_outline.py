"""JSON in a few words."""

import msgspec
import pytest

from tidegate.cli.outline import PREVIEW_CHARACTERS, collections, outline, preview, similar_pointers, size


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1234, "1.2 kB"), (62_000, "62.0 kB"), (8_388_608, "8.4 MB")],
)
def test_a_size_in_words(count: int, words: str) -> None:
    assert size(bytes(count)) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":1.10,"b":12345678901234567890123,"c":null,"d":[],"e":true}', None),
        (
            '{"password":"x","pin_token":5,"api_key":["y"],"token":false}',
            '{"password":"***","pin_token":"***","api_key":["***"],"token":false}',
        ),
        ('{"note":"use Bearer abc please"}', '{"note":"use Bearer *** please"}'),
        ('{"url":"http://me:sesame@h/"}', '{"url":"http://***@h/"}'),
        ("[1,2,3,4,5,6,7]", "[1,2,3,4,5,6,…]"),
        ('{"a":{"b":{"c":{"d":1}}}}', '{"a":{"b":{"c":{…}}}}'),
        (f'"{"x" * 50}"', f'"{"x" * 40}…"'),
    ],
)
def test_a_preview_keeps_digits_masks_secrets_and_is_short(text: str, shown: str | None) -> None:
    assert preview(raw(text)) == (text if shown is None else shown)


def test_a_preview_of_a_large_answer_is_bounded() -> None:
    items = ",".join(f'{{"name{n}":"{"x" * 100}"}}' for n in range(10_000))
    assert len(preview(raw(f"[{items}]"))) == PREVIEW_CHARACTERS + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7", "a number"),
        ('"secret"', "a text"),
        ("[]", "a list of 0"),
        ("{}", "an empty object"),
        ("[[1],2]", "a list of 2, the first of them a list of 1, the first of them a number"),
        ('{"a":"secret","b":[1],"c":null}', "an object with 'a' (a text), 'b' (a list of 1), 'c' (null)"),
    ],
)
def test_an_outline_has_names_and_kinds_and_no_values(text: str, words: str) -> None:
    assert outline(raw(text)) == words


def test_an_outline_names_only_some_of_many() -> None:
    many = ",".join(f'"n{n}":0' for n in range(15))
    assert outline(raw(f"{{{many}}}")).endswith("'n11' (a number) and 3 more")


@pytest.mark.parametrize(
    ("pointer", "similar"),
    [
        ("/data/targets", ["/data/target"]),
        ("/Data/target", ["/data/target"]),
        ("/target", ["/data/target"]),
        ("/x/id", ["/data/target/0/id"]),
        ("/data/target", []),
        ("/zzz", []),
    ],
)
def test_pointers_that_somebody_could_have_meant(pointer: str, similar: list[str]) -> None:
    assert similar_pointers(raw('{"data":{"target":[{"id":1}]}}'), pointer) == similar


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{"a":{"b":[1,2]},"c":[]}', ['"/a/b" (2 items)']),
        ('{"a":{"x":{"i":1},"y":{"i":2}}}', ['"/a" (an object of 2 objects)']),
        ("1", []),
    ],
)
def test_where_items_could_be(text: str, places: list[str]) -> None:
    assert collections(raw(text))[-1:] == places


def test_what_is_nested_too_deep_is_described_too() -> None:
    assert outline(raw('{"a":' + "[" * 2000 + "]" * 2000 + "}")) == "an object"
