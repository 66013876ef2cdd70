"""``python -m bench.keyed_lists``: what a tick of a keyed source costs the gateway, when one of its items changed.

From the backend's bytes to what is to be published: parsed and compacted, split into items, compared with the last.
"""

import argparse
import statistics
import time

import msgspec

from tidegate.core.instant import Instant
from tidegate.core.payload import compact
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.source_values import SourceSpec
from tidegate.core.shaping import Shape, shaped

BREAKER = BreakerRules(failure_threshold=5, open_s=5.0, open_max_s=300.0)
SPEC = SourceSpec(
    type="compression.update", backend="engine", interval_s=1.0, timeout_s=2.0, on_change=True, keyed=True
)
SHAPE = Shape(items=("/jobs",), key=(("id",),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--ticks", type=int, default=50)
    given = parser.parse_args()
    print("| keys | bytes per answer | compact, ms | split, ms | compare, ms | all, ms | events |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for keys in given.keys:
        print(row(keys, given.ticks), flush=True)


def row(keys: int, ticks: int) -> str:
    items = [
        {"id": f"job-{number}", "state": "running", "bytes": 0, "path": f"/data/{number}"} for number in range(keys)
    ]
    freshness = Freshness(SPEC)
    breaker = Breaker("engine", BREAKER, now=Instant(0.0, 0.0)).view()
    steps = []
    events = 0
    for tick in range(ticks + 1):
        items[tick % keys]["bytes"] = tick
        answer = msgspec.json.encode({"jobs": items})
        began = time.process_time()
        compacted = compact(answer)
        split_at = time.process_time()
        value = shaped(compacted, SHAPE, event_bytes=len(compacted))
        compared_at = time.process_time()
        now = Instant(float(tick), float(tick))
        update = freshness.answered(tick + 1, sent=now, value=value, now=now, breaker=breaker)
        ended = time.process_time()
        if tick:
            events += len(update.drafts)
            steps.append((split_at - began, compared_at - split_at, ended - compared_at, ended - began))
    shown = [f"{1000 * statistics.median(column):.2f}" for column in zip(*steps, strict=True)]
    return f"| {keys} | {len(answer)} | {' | '.join(shown)} | {events / ticks:g} per tick |"


if __name__ == "__main__":
    main()
