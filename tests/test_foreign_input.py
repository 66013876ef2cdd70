"""Whatever comes from outside: each reader of foreign text gives an answer or its own error, soon, and keeps nothing.

Inputs are samples of what is expected, mutated at random; `FUZZ_INPUTS` makes it so many of them, other ones each time.
"""

import contextlib
import gc
import itertools
import json
import os
import random
import re
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from fanout import SESSION_LIMITS
from msgspec import UNSET
from signing import jwks, rsa_key, secret, signed

from tidegate.client.items import UNREADABLE, decode_message, event_of
from tidegate.config import EXAMPLE, load
from tidegate.core import envelope, topics
from tidegate.core.access import subprotocol
from tidegate.core.access.grant import Grant, Role
from tidegate.core.access.query import parse_event_stream_query, parse_stream_query
from tidegate.core.delivery.framing import EVENT_STREAM, WEBSOCKET
from tidegate.core.delivery.session import Close, Effect, SessionLimits, StreamSession
from tidegate.core.envelope import encode_draft, encode_snapshot, event_at
from tidegate.core.events import Draft, Position
from tidegate.core.payload import compact
from tidegate.core.shaping import Shape, check_pointer, select, shaped
from tidegate.core.topics import PatternSet, check_event_type, check_pattern
from tidegate.errors import (
    AccessRefused,
    ConfigError,
    InvalidResponse,
    MessageError,
    PositionError,
    PublishError,
    TopicError,
)
from tidegate.inbound.http_api.body import parse_publications
from tidegate.outbound.auth import JwtAuthenticator, JwtOptions, KnownToken, TokenAuthenticator
from tidegate.outbound.auth.keys import _key_set, _Unusable
from tidegate.outbound.backends import jsonrpc
from tidegate.runtime.access import Gate, Request

UNLIMITED = SessionLimits(patterns=SESSION_LIMITS.patterns, messages_per_s=1.0, messages_burst=1_000_000_000)
TOKENS = TokenAuthenticator([KnownToken("r-123", Grant())])
KEY = secret()


class OneKey:
    """Knows the secret of the tokens among the samples."""

    def key_for(self, algorithm: str, kid: str | None) -> object:
        return KEY

    async def run(self) -> None: ...


SIGNED = JwtAuthenticator(OneKey(), JwtOptions(algorithms=["HS256"]))  # type: ignore[arg-type]
GATE = Gate(
    authenticator=TOKENS, bound_host="192.0.2.1", hosts=["nas.lan"], trusted_proxies=["127.0.0.0/8", "2001:db8::/32"]
)


def read_session(data: bytes) -> None:
    """A session answers every text; the answer is JSON, with the id that came, and patterns stay within their limit."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return  # the transport closes with 1007
    session = StreamSession(PatternSet(["a"]), allowed=PatternSet(["a", "b.*"]), limits=UNLIMITED, now=0.0)
    for effect in (session.receive(data, 0.0), session.receive(data, 1.0)):
        assert isinstance(effect, Effect)
        assert not isinstance(effect, Close)
        reply = json.loads(envelope.encode(envelope.Pong(timestamp="", id=effect.id)))
        if effect.id is not UNSET:
            assert reply["id"] == _last_id(data)
    assert len(session.patterns) <= UNLIMITED.patterns
    assert all(session.allowed.covers(p) or p in topics.UNCOVERED_PATTERNS for p in session.patterns.patterns)


def _last_id(data: bytes) -> object:
    return json.loads(data)["id"]


def read_result(data: bytes) -> None:
    with contextlib.suppress(InvalidResponse):
        whole = compact(data)
        assert parsed(bytes(whole)) == parsed(data)
        for pointer in ("/a", "/0", "/agents"):
            with contextlib.suppress(InvalidResponse):
                json.loads(bytes(select(whole, pointer)))
        with contextlib.suppress(InvalidResponse):
            assert all(shaped(whole, Shape(items=("/agents",), key=(("id",),)), event_bytes=len(whole)))


def parsed(data: bytes) -> object:
    """The value, numbers as their digits."""
    return json.loads(data, parse_int=str, parse_float=str)


def read_rpc_answer(data: bytes) -> None:
    with contextlib.suppress(InvalidResponse):
        jsonrpc._of_single(bytearray(data), 1)
    with contextlib.suppress(InvalidResponse):
        assert len(jsonrpc._of_batch(bytearray(data), [1, 2])) == 2


def read_pointer(data: bytes) -> None:
    text = data.decode(errors="replace")
    try:
        check_pointer(text)
    except ValueError:
        return
    with contextlib.suppress(InvalidResponse):
        select(msgspec.Raw(b'{"a":[1,{"":{"~":2,"/":3}}]}'), text)


def read_query(data: bytes) -> None:
    text = data.decode("latin-1")
    with contextlib.suppress(AccessRefused):
        parse_event_stream_query(text, "")
    with contextlib.suppress(AccessRefused):
        parse_event_stream_query("", text)
    try:
        query = parse_stream_query(text)
    except AccessRefused:
        return
    if query.types is not None:
        assert all(map(check_pattern, query.types.patterns))


def read_subprotocols(data: bytes) -> None:
    headers = {"sec-websocket-protocol": data.decode("latin-1")}
    with contextlib.suppress(AccessRefused):
        token = subprotocol.offered_token(headers)
        assert token is None or (token.isascii() and subprotocol.is_offered(headers))


def read_position(data: bytes) -> None:
    with contextlib.suppress(PositionError):
        position = Position.parse(data.decode(errors="replace"))
        assert Position.parse(str(position)) == position


def read_pattern(data: bytes) -> None:
    text = data.decode(errors="replace")
    parts = text.split(".")
    named = parts[:-1] if len(parts) > 1 and parts[-1] == "*" else parts
    fits = len(text) <= 128 and len(named) <= 8 and all(re.fullmatch("[a-z0-9_-]+", part) for part in named)
    assert _passes(check_event_type, text) == (fits and named == parts)
    assert _passes(check_pattern, text) == (fits or text == "*")


def _passes(check: Callable[[str], str], text: str) -> bool:
    try:
        return check(text) == text
    except TopicError:
        return False


def read_configuration(data: bytes) -> None:
    path = Path("tidegate.toml")
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        load(path, environ={})


def read_publication(data: bytes) -> None:
    try:
        drafts = [draft for some in parse_publications(data, check_count=lambda _: None) for draft in some]
    except PublishError:
        return
    for draft in drafts:
        read_event(draft)


def read_event(draft: Draft) -> None:
    """An event is one JSON object in one line, whatever its data and key; so are its snapshot and its frames."""
    event = event_at(1, encode_draft(draft, timestamp=1.0))
    snapshot = encode_snapshot(event)
    whole = parsed(event.json)
    assert isinstance(whole, dict)
    assert whole | {"snapshot": True} == parsed(snapshot)
    assert b"\n" not in event.json
    assert b"\r" not in event.json
    assert WEBSOCKET.event(event, "e").endswith(event.json)
    assert EVENT_STREAM.event(event, "e").count(b"\n") == 4


def read_frame(data: bytes) -> None:
    with contextlib.suppress(*UNREADABLE):
        frame = decode_message(data)
        event_of(frame, data)


def read_request(data: bytes) -> None:
    host, origin, forwarded, proto, bearer = (data.decode("latin-1").split("\n") + [""] * 5)[:5]
    fields = {"host": host, "x-forwarded-for": forwarded, "x-forwarded-proto": proto, "authorization": bearer}
    if origin:
        fields["origin"] = origin
    request = Request(peer="127.0.0.1", scheme="http", headers=fields)
    with contextlib.suppress(AccessRefused):
        GATE.check_host(request)
        GATE.check_origin(request)
        GATE.authenticate(request, None, Role.SUBSCRIBER)


def read_token(data: bytes) -> None:
    text = data.decode("latin-1")
    for authenticator in (TOKENS, SIGNED):
        with contextlib.suppress(MessageError):
            authenticator.verify(text)


def read_keys(data: bytes) -> None:
    with contextlib.suppress(_Unusable):
        _key_set(data)


class Reader(NamedTuple):
    """Takes foreign bytes; raises for anything that it should not do. `long` are as long as they may come."""

    read: Callable[[bytes], None]
    samples: list[bytes]
    long: list[bytes]


ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"agents":[{"id":"a","n":1.10},{"id":2}],"a":[null,true,"\\u00e4"]}}'
ERROR = b'{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"no","data":{}}}'
HEAD = 32_768
MESSAGE = 65_536
RESPONSE = 1 << 20

NESTED = [b"[" * RESPONSE, b'{"a":' * (RESPONSE // 5), b"[" * 500 + b"]" * 500]
STRINGS = [b'"' + b"\\u00e4" * (RESPONSE // 6) + b'"', b'"' + b"\\" * RESPONSE, b"1" * RESPONSE, b" " * RESPONSE]

READERS = {
    "session": Reader(
        read_session,
        [
            b'{"type":"subscribe","id":1,"data":{"types":["b.x","heartbeat","*"]}}',
            b'{"type":"unsubscribe","id":"\\u00e4\\n","types":["a"]}',
            b'{"type":"ping","id":-7,"data":{}}',
            b'{"type":"auth","data":{"token":"t"}}',
        ],
        [
            b"[" * MESSAGE,
            b'{"type":"ping","id":' + b"1" * (MESSAGE - 30) + b"}",
            b'{"type":"ping","id":"' + b"\\u0000" * (MESSAGE // 6 - 10) + b'"}',
            b'{"type":"subscribe","types":[' + b",".join([b'"a"'] * (MESSAGE // 4 - 10)) + b"]}",
            b'{"type":"subscribe","types":["' + b"a." * (MESSAGE // 2 - 20) + b'"]}',
            b'{"a":1,' * (MESSAGE // 7),
        ],
    ),
    "result": Reader(read_result, [ANSWER, b"[1,[2,{}]]", b'"x"', b"1e5"], [*NESTED, *STRINGS]),
    "answer": Reader(
        read_rpc_answer,
        [ANSWER, ERROR, b"[" + ANSWER + b"," + ERROR + b"]"],
        [*NESTED, b"[" + b"{}," * (RESPONSE // 3)],
    ),
    "pointer": Reader(
        read_pointer, [b"", b"/a/1//~0", b"/a/1//~1", b"/a/01"], [b"/" * HEAD, b"/~0" * HEAD, b"~" * HEAD]
    ),
    "query": Reader(
        read_query,
        [b"types=a,b.*&since=e1:7&token=t", b"types=%2A&x", b"types=a&types=%61+b;c"],
        [
            b"&" * HEAD,
            b"a=" * HEAD,
            b"types=" + b"," * HEAD,
            b"types=" + b"a." * HEAD,
            b"%" * HEAD,
            b"since=" + b"1" * HEAD,
        ],
    ),
    "subprotocols": Reader(
        read_subprotocols,
        [b"tidegate.v1, tidegate.token.dA", b"tidegate.token.dC1hbGw,tidegate.v1", b"graphql-ws"],
        [b"," * HEAD, b"tidegate.v1,tidegate.token." + b"a" * HEAD, b"tidegate.token.," * 2000],
    ),
    "position": Reader(read_position, [b"e1:7", b"a:b:0", b":1"], [b":" * HEAD, b"e:" + b"1" * HEAD]),
    "pattern": Reader(
        read_pattern, [b"a.b-c._1", b"a.*", b"*", b"a.b.c.d.e.f.g.h", b"a" * 128], [b"a." * HEAD, b"a" * HEAD + b"."]
    ),
    "configuration": Reader(
        read_configuration,
        [
            EXAMPLE.encode(),
            re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE).encode(),
            b'[auth]\nmode = "token"\n[[auth.tokens]]\ntoken = "t"\ntypes = ["*"]\n',
        ],
        [b"a=" + b"[" * 5000, b'a="' + b"\\" * HEAD, b"a." * 5000 + b"a=1", b"[a]\n" * HEAD, b"\n" * RESPONSE],
    ),
    "publication": Reader(
        read_publication,
        [
            b'{"type":"a.b","data":{"x":[1.10,"\\r\\n"]},"key":"k\\n","retain":true,"ttl_s":2.5}',
            b'[{"type":"a","data":null},{"type":"b","data":"\xe2\x80\xa8"}]',
        ],
        [*NESTED, *STRINGS, b'{"type":"a","data":' + b"1" * RESPONSE + b"}", b"[" + b'{"type":"a","data":1},' * 40_000],
    ),
    "frame": Reader(
        read_frame,
        [
            b'{"type":"a","timestamp":"2026-11-22T21:40:03.123Z","seq":1,"key":"k","stale":true,"as_of":null,"data":{}}',
            b'{"type":"gap","timestamp":"2026-11-22T21:40:03.123Z","data":{"reason":"x","requested":null,"skipped":{}}}',
        ],
        [b'{"type":"a","timestamp":"2026-11-22T21:40:03.123Z","data":' + nested for nested in NESTED],
    ),
    "request": Reader(
        read_request,
        [
            b"127.0.0.1:80\nhttp://127.0.0.1\n198.51.100.7, 127.0.0.1\nhttps\nBearer r-123",
            b"[::1]\nnull\n2001:db8::1, ::ffff:127.0.0.1\n\nBearer",
            b"nas.lan:12080",
        ],
        [
            b":" * HEAD,
            b"[" * HEAD,
            b"x\nhttp://" + b"a." * HEAD,
            b"x\n\n" + b"127.0.0.1," * 3000,
            b"x\n\n\n\n" + b"a " * HEAD,
        ],
    ),
    "token": Reader(
        read_token,
        [b"r-123", signed({"sub": "me", "exp": 4e9, "roles": ["admin"], "types": ["a.*"]}, KEY, "HS256").encode()],
        [b"." * HEAD, b"a" * HEAD, b"eyJ" * 10_000 + b"." + b"eyJ" * 10_000 + b".x"],
    ),
    "keys": Reader(read_keys, [jwks(rsa_key())], [*NESTED, b'{"keys":[' + b"{}," * 100_000]),
}

SPLICES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b".", b"*", b"\0", b"\n", b"\r\n", b"\xff", b"\xed\xa0\x80"]
SPLICES += [b"null", b"NaN", b"1e999", b"-0", b"9" * 40, b"\\ud800", b"%ff", b"%00", b"=", b"&", b"%", b"\xc3\xa4", b""]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with a few bytes taken away, doubled, replaced or put in."""
    for _ in range(rng.randint(1, 4)):
        begin, end = sorted(rng.randint(0, len(data)) for _ in range(2))
        end = min(end, begin + rng.choice([0, 1, 4, 1000]))
        middle = rng.choice([b"", data[begin:end] * 2, rng.choice(SPLICES), bytes([rng.randrange(256)])])
        data = data[:begin] + middle + data[end:]
    return data


def inputs(samples: list[bytes], rng: random.Random) -> Iterable[bytes]:
    yield from samples
    while True:
        yield mutated(rng.choice(samples), rng)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def take(reader: Reader, data: bytes) -> None:
    try:
        reader.read(data)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} for {data[:2000]!r}") from error


@pytest.mark.parametrize("name", READERS)
def test_gives_an_answer_or_its_own_error(name: str) -> None:
    asked = os.environ.get("FUZZ_INPUTS")
    rng = random.Random(None if asked else name)
    for data in itertools.islice(inputs(READERS[name].samples, rng), int(asked or 500)):
        take(READERS[name], data)


@pytest.mark.parametrize("name", READERS)
def test_the_longest_inputs_take_no_time_to_speak_of(name: str) -> None:
    for data in READERS[name].long:
        began = time.process_time()
        take(READERS[name], data)
        assert time.process_time() - began < 5.0, data[:100]


@pytest.mark.parametrize("name", READERS)
def test_keeps_nothing(name: str) -> None:
    reader, rng = READERS[name], random.Random(name)
    for data in itertools.islice(inputs(reader.samples, rng), 200):
        take(reader, data)
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for data in itertools.islice(inputs(reader.samples, rng), 300):
            take(reader, data)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 64 * 1024
