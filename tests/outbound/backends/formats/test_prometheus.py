"""Prometheus' text format as exporters write it, as it should not be, and as anything at all."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tidegate.errors import InvalidResponse
from tidegate.outbound.backends.formats import Written, prometheus, read
from tidegate.ports import AsPrometheus


async def read_samples(body: bytes, *match: str, limit_bytes: int = 1_000_000) -> bytes:
    return bytes(await read(Written(body, "text/plain; version=0.0.4", limit_bytes), AsPrometheus(match)))


NODE = b"""# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.42
# HELP node_filesystem_avail_bytes Filesystem space available.
# TYPE node_filesystem_avail_bytes gauge
node_filesystem_avail_bytes{device="/dev/vda",fstype="ext4",mountpoint="/"} 1.2345678e+10
node_filesystem_avail_bytes{device="tmpfs",fstype="tmpfs",mountpoint="/run"} 4.096e+06

node_memory_MemAvailable_bytes 1.7e+09 1395066363000
"""


async def test_the_samples_that_are_wanted_are_a_list_with_their_digits() -> None:
    assert (await read_samples(NODE, "node_load1", "node_memory_MemAvailable_bytes", "none_such")) == (
        b'[{"name":"node_load1","labels":{},"value":0.42},'
        b'{"name":"node_memory_MemAvailable_bytes","labels":{},"value":1.7e+09}]'
    )


async def test_without_names_all_are_wanted() -> None:
    found = json.loads(await read_samples(NODE))
    assert [(each["name"], each["labels"].get("mountpoint"), each["value"]) for each in found] == [
        ("node_load1", None, 0.42),
        ("node_filesystem_avail_bytes", "/", 12345678000.0),
        ("node_filesystem_avail_bytes", "/run", 4096000.0),
        ("node_memory_MemAvailable_bytes", None, 1.7e9),
    ]


@pytest.mark.parametrize(
    ("line", "sample"),
    [
        (b"a 1", b'{"name":"a","labels":{},"value":1}'),
        (b"a 1.50", b'{"name":"a","labels":{},"value":1.50}'),
        (b"  a\t 1 \r", b'{"name":"a","labels":{},"value":1}'),
        (b"a:b_c9{} 1", b'{"name":"a:b_c9","labels":{},"value":1}'),
        (b'a{b="c",} 1', b'{"name":"a","labels":{"b":"c"},"value":1}'),
        (b'a {b="c"}1', b'{"name":"a","labels":{"b":"c"},"value":1}'),
        (b'a{b="c}d 7",e="\\"\\\\\\n{"} 2 3', b'{"name":"a","labels":{"b":"c}d 7","e":"\\"\\\\\\n{"},"value":2}'),
        ('a{b="ü"} 1'.encode(), '{"name":"a","labels":{"b":"ü"},"value":1}'.encode()),
        (b'{"a.b",c="d"} 1', b'{"name":"a.b","labels":{"c":"d"},"value":1}'),
        (b"a NaN", b'{"name":"a","labels":{},"value":"NaN"}'),
        (b"a +Inf", b'{"name":"a","labels":{},"value":"+Inf"}'),
        (b"a -inf 7", b'{"name":"a","labels":{},"value":"-Inf"}'),
        (b"a +5", b'{"name":"a","labels":{},"value":5}'),
        (b"a .5", b'{"name":"a","labels":{},"value":0.5}'),
        (b"a -0.0", b'{"name":"a","labels":{},"value":-0.0}'),
        (b"a 007", b'{"name":"a","labels":{},"value":7}'),
        (b"a 18446744073709551616000", b'{"name":"a","labels":{},"value":18446744073709551616000}'),
        (b"a +18446744073709551616000", b'{"name":"a","labels":{},"value":18446744073709551616000}'),
        (b'a{le="1"} 5 # {trace="x"} 0.67', b'{"name":"a","labels":{"le":"1"},"value":5}'),
    ],
)
async def test_one_sample(line: bytes, sample: bytes) -> None:
    assert (await read_samples(line)) == b"[" + sample + b"]"
    name: str = json.loads(sample)["name"]
    assert (await read_samples(b"other 2\n" + line + b"\nlast 3", name)) == b"[" + sample + b"]"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "got nothing at all"),
        (b"\n\n", "got nothing at all"),
        (b"<html>\n<title>Login</title>", "got the line b'<html>'"),
        (b'{"status":"ok"}', 'got the line b\'{"status":"ok"}\''),
        (b"Not found", "got the line b'Not found'"),
        (b"a 1\nb", "got the line b'b'"),
        (b"a 1\nb one", "got the line b'b one'"),
        (b"b 1_0", "got the line b'b 1_0'"),
        (b'b{c="d} 1', "got the line"),
        (b'b{c="\xff"} 1', "got the line"),
        (b'b{c="1",c="2"} 1', "got the line"),
        (b"a" * 16_385, "lines of at most 16384 bytes, got one of 16385"),
        (b"b 1" + b" " * 100 + b"x", "…"),
    ],
)
async def test_what_is_none_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidResponse) as caught:
        await read_samples(body)
    assert "expected metrics in" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>\n<title>Login</title>", b"Not found", b'{"a":1}', b"", b"a 1\n<p>"])
async def test_something_else_is_not_taken_for_metrics_without_those_that_are_wanted(body: bytes) -> None:
    with pytest.raises(InvalidResponse):
        await read_samples(body, "node_load1")


async def test_a_name_in_quotes_is_wanted_or_not_as_any_other() -> None:
    body = b'{"a.b",c="d"} 1\na 2'
    assert await read_samples(body, "a.b") == b'[{"name":"a.b","labels":{"c":"d"},"value":1}]'
    assert await read_samples(body, "a") == b'[{"name":"a","labels":{},"value":2}]'


async def test_what_is_not_wanted_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser takes most of the time."""
    parsed = []

    def noted(line: str) -> Iterator[Metric]:
        parsed.append(line)
        yield from text_string_to_metric_families(line)

    monkeypatch.setattr(prometheus, "text_string_to_metric_families", noted)
    await read_samples(NODE, "node_load1")
    assert parsed == ["node_load1 0.42"]


async def test_the_list_is_bounded_as_json_is() -> None:
    body = b"\n".join(b"a%d 1" % number for number in range(100))
    size = len(await read_samples(body))
    assert len(await read_samples(body, limit_bytes=size)) == size
    with pytest.raises(InvalidResponse, match=rf"at most {size - 1} bytes as JSON \(response_bytes\), got more"):
        await read_samples(body, limit_bytes=size - 1)


def test_others_have_their_turn() -> None:
    def yields(body: bytes, *match: str) -> int:
        return sum(1 for _ in prometheus.samples(Written(body, None, 10_000_000), match))

    worst = b"a{" + b",".join(b'a%d=""' % number for number in range(1500)) + b"} 1\n"
    assert yields(b"a 1\n" * 1000) >= 1000 * 20 // 500
    assert yields(b"b 1\n" * 10_000, "a") >= 10_000 // 500 - 1
    assert yields(b"\n" * 10_000 + b"a 1") >= 10_000 // 500 - 1
    assert yields(worst * 10) >= 9


LABELS = st.dictionaries(st.from_regex(r"l[a-z0-9_]{0,4}", fullmatch=True), st.text(max_size=20), max_size=3)


@given(st.lists(st.tuples(st.sampled_from("abc"), LABELS, st.floats()), min_size=1, max_size=10))
async def test_what_prometheus_itself_writes_is_read(samples: Sequence[tuple[str, Mapping[str, str], float]]) -> None:
    registry = CollectorRegistry()
    for number, (name, labels, value) in enumerate(samples):
        gauge = Gauge(f"{name}{number}", "of it\nall", [*labels], registry=registry)
        (gauge.labels(**labels) if labels else gauge).set(value)
    found = json.loads(await read_samples(generate_latest(registry)))
    expected = [
        {"name": f"{name}{number}", "labels": dict(labels), "value": as_json(value)}
        for number, (name, labels, value) in enumerate(samples)
    ]
    assert found == expected


def as_json(value: float) -> object:
    if math.isnan(value):
        return "NaN"
    return ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else value


async def test_counters_and_histograms_have_the_names_that_are_written() -> None:
    registry = CollectorRegistry()
    Counter("calls", "of it", registry=registry).inc()
    Histogram("took", "of it", registry=registry, buckets=[1.0]).observe(0.5)
    found = json.loads(await read_samples(generate_latest(registry), "calls_total", "took_bucket", "took_sum"))
    assert [(each["name"], each["labels"], each["value"]) for each in found] == [
        ("calls_total", {}, 1.0),
        ("took_bucket", {"le": "1.0"}, 1.0),
        ("took_bucket", {"le": "+Inf"}, 1.0),
        ("took_sum", {}, 0.5),
    ]


PIECES = st.sampled_from(
    ["a", "{", "}", '"', "\\", ",", "=", " ", "1", ".", "e", "\n", "#", "\t", "-", '{"a"', "é", "\x85", "\r"]
)


@given(st.lists(PIECES, max_size=25).map("".join).map(str.encode) | st.binary(max_size=30))
async def test_whatever_comes_is_json_or_refused(body: bytes) -> None:
    for match in [(), ("a",)]:
        try:
            found: Any = json.loads(await read_samples(body, *match), parse_constant=pytest.fail)
        except InvalidResponse:
            continue
        assert all(each.keys() == {"name", "labels", "value"} for each in found)
