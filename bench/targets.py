"""Every target, beside what was measured: the table of README.md."""

from collections.abc import Callable, Sequence

from bench.comparison import Estimate, estimate, ratio
from bench.faults import Outage
from bench.results import Result, Row, load, names, of
from bench.scenario import Table
from bench.scenarios import cohorts, fanout, herd, instructions, isolation, memory, polling

OURS = "tidegate"

SAME = f"{OURS}#2"

HEADS = ["what", "target", "ours", "others in the same run", "ratio with its 95 % interval", "reached", "commit"]

Line = list[str]


def table() -> Table:
    """One line for each target; those of scenarios without a recorded run say so."""
    lines = [_line(*target) for target in TARGETS]
    return [HEADS, *lines, *BY_OTHER_MEANS]


def _line(what: str, target: str, scenario: str, found: Callable[[Sequence[Row]], Line]) -> Line:
    result: Result | None = load(scenario)
    if result is None:
        return [what, target, "not recorded", "", "", "", ""]
    return [what, target, *found(result.rows), result.commit]


def _cpu(rows: Sequence[Row]) -> Line:
    floor, uws = _ratio(rows, "cpu_us", "floor"), _ratio(rows, "cpu_us", "uws")
    spent = _medians(rows, "cpu_us")
    reached = floor.value <= 1.25 and uws.value <= 1.15 and _is_least(spent, but=("floor", "uws"))
    said = f"{floor} × floor, {uws} × uWebSockets; A/A {_ratio(rows, 'cpu_us', OURS, SAME)}"
    return [f"{spent[OURS]:.2f} µs", _others(spent, "{:.2f}"), said, _reached(reached)]


def _burst(rows: Sequence[Row]) -> Line:
    floor, uws = _ratio(rows, "cpu_us", fanout.SINGLE_FLOOR), _ratio(rows, "cpu_us", "uws")
    spent = _medians(rows, "cpu_us")
    said = f"{uws} × uWebSockets, {floor} × the floor's single send; A/A {_ratio(rows, 'cpu_us', OURS, SAME)}"
    return [f"{spent[OURS]:.2f} µs", _others(spent, "{:.2f}"), said, _reached(uws.value <= 1.0 and floor.value <= 0.4)]


def _calls(rows: Sequence[Row]) -> Line:
    counted = {name: fanout.calls_per_delivery(rows, name) for name in names(rows)}
    calls = {name: value for name, value in counted.items() if value is not None}
    if OURS not in calls:
        return ["perf counts no system calls here", "", "", ""]
    return [f"{calls[OURS]:.3f}", _others(calls, "{:.3f}"), "–", _reached(calls[OURS] <= 1.005)]


def _instructions(rows: Sequence[Row]) -> Line:
    counted = {row["server"]: instructions.per_delivery(rows, row["server"]) for row in rows}
    return [f"{counted[OURS]:.0f}", _others(counted, "{:.0f}"), "–", _reached(counted[OURS] <= 1500)]


def _latency(rows: Sequence[Row]) -> Line:
    p50, p99 = _medians(rows, "p50_us"), _medians(rows, "p99_us")
    shown = {name: f"{p50[name] / 1000:.1f}/{p99[name] / 1000:.1f}" for name in p50}
    peers = [name for name in p50 if not name.startswith((OURS, "floor"))]
    best = [min(peers, key=lambda name: values[name]) for values in (p50, p99)]
    compared = [_ratio(rows, field, peer) for field, peer in zip(("p50_us", "p99_us"), best, strict=True)]
    said = f"p50 {compared[0]} × {best[0]}, p99 {compared[1]} × {best[1]}"
    others = ", ".join(f"{name} {value}" for name, value in shown.items() if not name.startswith(OURS))
    return [f"{shown[OURS]} ms", others, said, _reached(all(one.value <= 1.0 for one in compared))]


def _memory(rows: Sequence[Row]) -> Line:
    servers = dict.fromkeys(row["server"] for row in rows)
    taken = {server: memory.per_connection(rows, server, "idle") / 1000 for server in servers}
    after = memory.per_connection(rows, OURS, "after bursts") / 1000
    said = f"after bursts {after:.1f} KB"
    return [f"{taken[OURS]:.1f} KB", _others(taken, "{:.1f}"), said, _reached(max(taken[OURS], after) <= 6.0)]


def _idle(rows: Sequence[Row]) -> Line:
    spent = {row["server"]: row["cpu_us"] for row in rows}
    return [f"{spent[OURS]:.2f} µs per s", _others(spent, "{:.2f}"), "–", _reached(spent[OURS] <= 3.0)]


def _storm(rows: Sequence[Row]) -> Line:
    took = _medians(rows, "all_s")
    against = _ratio(rows, "all_s", "ws")
    resuming = f"{OURS}, resuming"
    missing = sum(sum(of(rows, name, field)) for name in (OURS, resuming) for field in ("refused", "lost"))
    said = f"{against} × ws; {missing:.0f} refused or lost"
    ours = f"{took[OURS]:.2f} s, resuming {took[resuming]:.2f} s"
    return [ours, _others(took, "{:.2f}"), said, _reached(against.value <= 1.0 and missing == 0)]


def _cohorts(rows: Sequence[Row]) -> Line:
    spent = _medians(rows, "cpu_us")
    against = ratio(of(rows, cohorts.DISTINCT, "cpu_us"), of(rows, cohorts.SHARED, "cpu_us"))
    ours = f"{spent[cohorts.DISTINCT]:.2f} µs; one shared set {spent[cohorts.SHARED]:.2f}"
    return [ours, "–", str(against), _reached(against.value <= 1.3)]


def _stuck(rows: Sequence[Row]) -> Line:
    p99 = {name: estimate(of(rows, name, "p99_us")).value / 1000 for name in names(rows)}
    against = {
        name: ratio(of(rows, name, "p99_us"), of(rows, isolation.ALONE, "p99_us"))
        for name in p99
        if name != isolation.ALONE
    }
    held = max(row.get("queued_bytes", 0) for row in rows)
    ours = f"p99 {', '.join(f'{name} {value:.1f} ms' for name, value in p99.items())}; at most {held:.0f} bytes held"
    said = ", ".join(f"{name}: {value}" for name, value in against.items())
    return [ours, "–", said, _reached(all(one.value <= 1.2 for one in against.values()) and held <= 4194304)]


def _poll(rows: Sequence[Row]) -> Line:
    batch, single = polling.MODES
    share = {mode: 100 * estimate(of(rows, mode, "core_share")).value for mode in polling.MODES}
    jitter_ms = {mode: estimate(of(rows, mode, "jitter_p99_us")).value / 1000 for mode in polling.MODES}
    ours = f"{share[batch]:.1f} % of a core; jitter p99 {jitter_ms[batch]:.1f} ms"
    others = f"{single} {share[single]:.1f} %, {jitter_ms[single]:.1f} ms"
    return [ours, others, "–", _reached(share[batch] <= 25 and jitter_ms[batch] <= 50)]


def _bounds(rows: Sequence[Row]) -> Line:
    own = [row for row in rows if row["server"] == OURS and row["touched"]]
    late = [row for row in own if row["last_s"] is None or row["last_s"] > row["bound_s"]]
    slowest = max((row["last_s"] or float("inf") for row in own if row["outage"] == Outage.REFUSED.value), default=0.0)
    ours = f"{len(own) - len(late)} of {len(own)} outages; connection refused: {slowest:.1f} s"
    return [ours, "–", "–", _reached(not late)]


def _herd(rows: Sequence[Row]) -> Line:
    own = [row for row in rows if row["server"] == OURS]
    busiest, cap = max(row["busiest"] for row in own), own[0]["cap_per_s"]
    later_ms = max(row["gap_ms"] - row["gap_before_ms"] for row in own)
    ours = f"{busiest} calls; another backend's calls at most {max(0.0, later_ms):.0f} ms later than before"
    return [ours, "–", "–", _reached(busiest <= cap * herd.ARRIVAL)]


def _ratio(rows: Sequence[Row], field: str, other: str, ours: str = OURS) -> Estimate:
    return ratio(of(rows, ours, field), of(rows, other, field))


def _medians(rows: Sequence[Row], field: str) -> dict[str, float]:
    return {name: estimate(of(rows, name, field)).value for name in names(rows)}


def _others(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items() if not name.startswith(OURS))


def _is_least(values: dict[str, float], *, but: Sequence[str]) -> bool:
    return all(values[OURS] < value for name, value in values.items() if not name.startswith(OURS) and name not in but)


def _reached(holds: bool) -> str:
    return "yes" if holds else "**no**"


TARGETS: list[tuple[str, str, str, Callable[[Sequence[Row]], Line]]] = [
    (
        "CPU per delivery: 1000 subscribers, 100 single events/s, 300 bytes",
        "≤ 1.25 × floor, ≤ 1.15 × uWebSockets, below every other server",
        "cpu",
        _cpu,
    ),
    ("the same in bursts of 5", "≤ 1.0 × uWebSockets, ≤ 0.4 × the floor's single send", "burst", _burst),
    ("system calls per delivery of single events", "≤ 1.00 per connection and loop turn", "cpu", _calls),
    ("user instructions per delivery", "≤ 1,500", "instructions", _instructions),
    ("publish → receive p50/p99, 1000 subscribers, 100,000 deliveries/s", "≤ the best peer's", "cpu", _latency),
    ("user memory per idle connection, 8,000 connections", "≤ 6 KB", "memory", _memory),
    ("CPU per idle connection, pings on, 8,000 connections", "≤ 3 µs per second", "idle", _idle),
    (
        "connect + subscribe + snapshot, 8,000 clients at once",
        "no slower than Node `ws`; none refused, none lost",
        "storm",
        _storm,
    ),
    ("10,000 distinct subscription sets on 10,000 connections", "≤ 1.3 × one shared set", "cohorts", _cohorts),
    (
        "one reader of 1000 stuck; one slow; one of everything",
        "the others' p99 ≤ 1.2 × without it; memory within the limits",
        "stuck",
        _stuck,
    ),
    (
        "1,000 sources at 1 s on one backend",
        "≤ 25 % of a core with batching; start jitter p99 ≤ 50 ms",
        "poll",
        _poll,
    ),
    (
        "backend back → the last source fresh",
        "the bounds of `bounds` below, each outage three times",
        "bounds",
        _bounds,
    ),
    (
        "busiest second after the return of a backend with 5,000 sources every 60 s",
        "≤ 333 calls, the cap of catching up; no other backend waits",
        "herd",
        _herd,
    ),
]

BY_OTHER_MEANS: Table = [
    ["two worker processes", "≤ 1.11 × the CPU of one", "there are no workers yet", "–", "–", "–", "–"],
    [
        "failure → first stale event",
        "≤ interval + timeout",
        "checked in virtual time: `tests/simulation`",
        "–",
        "–",
        "yes",
        "–",
    ],
]
