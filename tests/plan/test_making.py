"""A plan is pure data: made without a look outside, equal when made again, typed, and printed without secrets."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from tidegate.config import EXAMPLE, Config, demo_config, from_document, load
from tidegate.outbound.auth.opening import ListedTokens
from tidegate.outbound.backends import RpcOptions
from tidegate.plan import changes, plan
from tidegate.ports import Call, HttpRequest

JWT: dict[str, Any] = {"issuer": "us", "audience": "them"}

SECRETS: dict[str, Any] = {
    "backends": {
        "b": {
            "url": "http://user:hush-1@h:1/?key=hush-2",
            "headers": {"X-Api-Key": "hush-3", "Accept": "application/json"},
        },
        "c": {"url": "http://h", "protocol": "http"},
    },
    "sources": {
        "s": {"backend": "b", "method": "m?token=hush-4", "params": {"password": "hush-5", "of": 1}},
        "t": {"backend": "c", "path": "m?token=hush-7", "body": {"of": "hush-8"}, "headers": {"X-Of": "hush-9"}},
    },
    "auth": {"mode": "token", "tokens": [{"token": "hush-6"}]},
}


def example(directory: Path) -> Config:
    path = directory / "tidegate.toml"
    path.write_text(EXAMPLE)
    return load(path, environ={})


def whole_example(directory: Path) -> Config:
    """With everything that the example explains."""
    path = directory / "tidegate.toml"
    path.write_text(re.sub(r"^#(?=[a-z\[])", "", EXAMPLE, flags=re.MULTILINE))
    for name in ("bearer", "ca.pem", "client.pem", "client.key", "server.pem", "server.key", "token", "jwt.pub"):
        (directory / name).touch()
    return load(path, environ={})


def signed(directory: Path, **keys: str) -> Config:
    (directory / "key").touch()
    jwt = {name: value.format(directory) for name, value in keys.items()}
    document = {"server": {"state_dir": str(directory)}, "auth": {"mode": "jwt", "jwt": JWT | jwt}}
    return from_document(document, environ={})


CONFIGS = {
    "none": lambda _: Config(),
    "demo": lambda _: demo_config("http://127.0.0.1:9/rpc", environ={}),
    "example": example,
    "whole example": whole_example,
    "secrets": lambda _: from_document(SECRETS, environ={}),
    "public key": lambda directory: signed(directory, key_file="{}/key"),
    "key set": lambda directory: signed(directory, jwks_url="https://user:hush@issuer/jwks"),
}


@pytest.fixture(params=CONFIGS.values(), ids=list(CONFIGS))
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    made: Config = request.param(tmp_path)
    return made


def test_a_plan_that_is_made_again_is_equal(config: Config) -> None:
    again = msgspec.structs.replace(config)
    assert plan(config) == plan(again)
    assert changes(plan(config), plan(again)) == []


def test_nothing_is_opened_read_or_looked_up(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    watching = [True]

    def note(event: str, _: object) -> None:
        if watching:
            events.append(event)

    plan(config)  # what is only imported when it is needed is imported now
    sys.addaudithook(note)  # cannot be taken away again
    try:
        with monkeypatch.context() as patched:
            for name in ("stat", "lstat", "access"):  # of which no hook is told
                patched.setattr(os, name, lambda *_, **__: events.append("looked at"))
            plan(config)
    finally:
        watching.clear()
    assert [event for event in events if not event.startswith("object.")] == []


def test_no_secret_shows(config: Config) -> None:
    assert "hush" not in repr(plan(config))
    texts = [(change.before, change.after) for change in changes(plan(Config()), plan(config))]
    assert "hush" not in str(texts)


def test_what_is_no_secret_shows() -> None:
    shown = repr(plan(from_document(SECRETS, environ={})))
    assert all(text in shown for text in ("http://***@h:1/?key=***", "application/json", "'of': 1", "m?token=***"))


def structs(value: object) -> Iterator[msgspec.Struct]:
    match value:
        case msgspec.Struct():
            yield value
            for name in value.__struct_fields__:
                yield from structs(getattr(value, name))
        case tuple():
            for each in value:
                yield from structs(each)


def test_every_value_is_of_the_type_that_its_part_expects(config: Config) -> None:
    """A part's option takes the key of its name: they might mean different things."""
    for part in structs(plan(config)):
        for field in msgspec.structs.fields(part):
            value = getattr(part, field.name)
            if isinstance(value, msgspec.Struct):
                assert isinstance(value, get_args(field.type) or field.type), field.name
            else:
                expected = type(msgspec.convert(value, field.type, dec_hook=as_it_is))
                assert expected in (type(value), list), field.name  # any sequence is as good as a list


def as_it_is(expected: type, value: object) -> object:
    if not isinstance(value, expected):
        raise TypeError(f"expected {expected}, got {value!r}")
    return value


def test_nothing_in_a_plan_can_be_changed(config: Config) -> None:
    made = plan(config)
    assert all(each.__struct_config__.frozen for each in structs(made))
    for part in structs(made):
        for name in part.__struct_fields__:
            assert not isinstance(getattr(part, name), list | set | bytearray), name


def test_a_token_is_named_by_its_place_in_the_list() -> None:
    tokens = [{"token": "of-the-first-bearer"}, {"token": "of-the-second-bearer"}]
    made = plan(from_document({"auth": {"mode": "token", "tokens": tokens}}, environ={})).authentication
    assert isinstance(made, ListedTokens)
    assert [token.grant.name for token in made.tokens] == ["token 0", "token 1"]


@pytest.mark.parametrize(
    ("source", "given", "verb", "headers", "body"),
    [
        ({}, {}, "GET", {}, None),
        ({"verb": "PUT"}, {}, "PUT", {}, None),
        ({"body": {"a": [1.5, "ü"]}}, {}, "POST", {}, '{"a":[1.5,"ü"]}'.encode()),
        ({"body": []}, {}, "POST", {}, b"[]"),
        ({"body": {}, "verb": "GET"}, {}, "GET", {}, b"{}"),
        ({"body": "ü "}, {}, "POST", {"Content-Type": "text/plain; charset=utf-8"}, "ü ".encode()),
        ({"body": ""}, {}, "POST", {"Content-Type": "text/plain; charset=utf-8"}, b""),
        ({"body": "a", "headers": {"content-type": "x/y"}}, {}, "POST", {"content-type": "x/y"}, b"a"),
        ({"body": "a", "headers": {"A": "b"}}, {"CONTENT-TYPE": "x/y"}, "POST", {"A": "b"}, b"a"),
    ],
)
def test_what_a_source_of_a_http_backend_sends(
    source: dict[str, Any], given: dict[str, str], verb: str, headers: dict[str, str], body: bytes | None
) -> None:
    document = {
        "backends": {"b": {"url": "http://b:1", "protocol": "http", "headers": given}},
        "sources": {"s": {"backend": "b", "path": "p", **source}},
    }
    call = plan(from_document(document, environ={})).backends[0].polling.sources[0].call
    assert call == Call("p", http=HttpRequest(verb=verb, headers=headers, body=body))


@pytest.mark.parametrize("url", ["http://b:1", "ws://b:1", "unix:///b"])
def test_the_version_of_json_rpc_reaches_whatever_speaks_it(url: str) -> None:
    config = from_document({"backends": {"b": {"url": url, "jsonrpc": "1.0"}}}, environ={})
    endpoint = plan(config).backends[0].endpoint
    options = endpoint.options
    assert (options.version if isinstance(options, RpcOptions) else endpoint.version) == "1.0"


def open_periods(*intervals: float, **rules: float) -> tuple[float, float]:
    sources = {f"s{n}": {"backend": "b", "method": "m", "interval_s": each} for n, each in enumerate(intervals)}
    document = {
        "backends": {"b": {"url": "http://b:1", "breaker": rules}, "c": {"url": "http://c:1"}},
        "sources": sources | {"of-another": {"backend": "c", "method": "m", "interval_s": 0.5}},
    }
    breaker = plan(from_document(document, environ={})).backends[0].polling.breaker
    return breaker.open_s, breaker.open_max_s


@pytest.mark.parametrize(
    ("intervals", "longest_s"),
    [
        ((), 15.0),
        ((1.0, 5.0), 15.0),
        ((150.0,), 15.0),
        ((200.0, 3600.0), 20.0),
        ((3000.0,), 300.0),
        ((86400.0,), 300.0),
    ],
)
def test_the_longest_open_period_follows_the_shortest_interval_of_the_backend(
    intervals: tuple[float, ...], longest_s: float
) -> None:
    assert open_periods(*intervals) == (2.0, longest_s)


def test_one_that_is_set_is_taken_as_it_is() -> None:
    assert open_periods(3600.0, open_max_s=4.0) == (2.0, 4.0)
    assert open_periods(1.0, open_max_s=600.0) == (2.0, 600.0)


def test_a_first_open_period_above_the_default_of_the_longest_is_the_longest_too() -> None:
    """It is never cut short without a word."""
    assert open_periods(1.0, open_s=40.0) == (40.0, 40.0)
    assert open_periods(500.0, open_s=40.0) == (40.0, 50.0)
    assert open_periods(1.0, open_s=400.0) == (400.0, 400.0)
