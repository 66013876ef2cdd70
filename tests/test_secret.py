"""Whatever shows a secret shows that there is one, and nothing else."""

import copy
import json
import pickle
import pprint
import traceback

import msgspec
import pytest

from tidegate.secret import MASK, Secret

CANARY = "c4n4ry-in-the-mine"


class Holder(msgspec.Struct):
    password: Secret


def test_nothing_that_prints_shows_it() -> None:
    secret = Secret(CANARY)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>40}", "%s %r" % (secret, secret), ascii(secret)]  # noqa: UP031
    shown += [pprint.pformat({"a": [secret]}), repr(Holder(secret)), repr(Secret.__dict__), repr(dir(secret))]
    assert [text for text in shown if CANARY in text] == []
    assert str(secret) == MASK


@pytest.mark.parametrize("encode", [json.dumps, msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps])
def test_it_cannot_be_encoded(encode: object) -> None:
    for value in (Secret(CANARY), Holder(Secret(CANARY))):
        with pytest.raises(TypeError) as caught:
            encode(value)  # type: ignore[operator]
        assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_copies_and_comparisons_are_of_the_value() -> None:
    secret = Secret(CANARY)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    assert secret == Secret(CANARY)
    assert hash(secret) == hash(Secret(CANARY))
    assert secret != Secret("other")
    assert secret != CANARY
    assert not Secret("")
    assert secret.reveal() == CANARY
