"""``python -m bench.shaping``: what it costs to make fields or items of a long answer, beside decoding it once.

The ratio within one run is what counts; it should stay below 1.5. Each is the fastest of several series.
"""

import argparse
import timeit

import msgspec

from tidegate.core.shaping import Shape, shaped

SERIES = 15
SENSORS = [
    {"id": n, "name": f"sensor {n}", "value": n / 7, "labels": {"host": "nas", "disk": f"sd{n}"}, "last": [n / 3] * 5}
    for n in range(340)
]
THREE = {"x": "/x", "y": "/y", "z": "/z"}
OF_EACH = {"name": "/name", "value": "/value", "disk": "/labels/disk"}
ANSWERS: dict[str, tuple[object, Shape]] = {
    "many numbers side by side": (
        {f"key_{n}": n / 7 for n in range(2200)},
        Shape(fields={"a": "/key_1", "b": "/key_1100", "c": "/key_2199"}),
    ),
    "a long list beside the fields": ({"list": SENSORS, "x": 1, "y": 2, "z": 3}, Shape(fields=THREE)),
    "the same, five objects deep": (
        {"a": {"b": {"c": {"d": {"list": SENSORS, "x": 1, "y": 2, "z": 3}}}}},
        Shape(select="/a/b/c/d", fields=THREE),
    ),
    "items of a list": (
        {"data": {"result": SENSORS}},
        Shape(fields={name: f"/data/result/{at}/value" for name, at in (("a", 3), ("b", 100), ("c", 300))}),
    ),
    "each of 340 items, three fields": (
        {"list": SENSORS},
        Shape(items=("/list",), key=(("id",),), fields=OF_EACH),
    ),
    "each of 340 members of an object, three fields": (
        {"sensors": {f"s{sensor['id']}": sensor for sensor in SENSORS}},
        Shape(items=("/sensors",), fields=OF_EACH),
    ),
    "340 items as they are": ({"list": SENSORS}, Shape(items=("/list",), key=(("id",),))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    print("| answer | bytes | decoded once, µs | shaped, µs | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for name, (answer, shape) in ANSWERS.items():
        print(row(name, msgspec.Raw(msgspec.json.encode(answer)), shape, times), flush=True)


def row(name: str, raw: msgspec.Raw, shape: Shape, times: int) -> str:
    decoder = msgspec.json.Decoder()
    timers = (
        timeit.Timer(lambda: decoder.decode(raw)),
        timeit.Timer(lambda: shaped(raw, shape, event_bytes=1 << 20)),
    )
    # In turns, so that a machine that is busy for a while is so for both.
    series = [[timer.timeit(times) / times for timer in timers] for _ in range(SERIES)]
    decoded, made = map(min, zip(*series, strict=True))
    return f"| {name} | {len(raw)} | {decoded * 1e6:.0f} | {made * 1e6:.0f} | {made / decoded:.2f} |"


if __name__ == "__main__":
    main()
