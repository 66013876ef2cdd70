"""What asking costs: many sources of one backend, in JSON-RPC batches or in single calls, and how steadily they start.

Rows: `server` (the mode), `block`, `core_share`, `cpu_us` per poll, `polls_per_s`, `requests_per_s`, and the distance
of two calls of a source from its interval: `jitter_p50_us`, `jitter_p99_us`, `jitter_max_us`.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.comparison import estimate
from bench.measure import cpu_us
from bench.programs import compiled
from bench.results import Choice, Row, names, of
from bench.scenario import Scenario, Table
from bench.servers import Running, Setup, free_port, running, servers_named

INTERVAL_S = 1.0

WARM_S = 4.0

MODES = {"JSON-RPC batches": "true", "single calls": "false"}


def run(choice: Choice) -> list[Row]:
    rows: list[Row] = []
    for mode, batch in MODES.items():
        (server,) = servers_named(choice.servers)
        with _backend(choice.subscribers) as (port, backend):
            setup = Setup(settings=_settings(port, choice.subscribers, batch))
            with running(server, setup) as host:
                time.sleep(WARM_S)
                _ask(backend)
                rows += [_block(host, backend, choice.seconds) | _named(mode, n) for n in range(choice.blocks)]
        print(f"{mode} done", file=sys.stderr)
    return rows


def table(rows: Sequence[Row]) -> Table:
    heads = ["mode", "share of a core", "µs CPU per poll", "polls per s", "requests per s"]
    heads += ["start jitter p50 ms", "p99 ms", "largest ms"]
    return [heads, *(_line(rows, name) for name in names(rows))]


def _line(rows: Sequence[Row], name: str) -> list[str]:
    jitter = (of(rows, name, field) for field in ("jitter_p50_us", "jitter_p99_us"))
    return [
        name,
        f"{100 * estimate(of(rows, name, 'core_share')).value:.1f} %",
        str(estimate(of(rows, name, "cpu_us"))),
        *(f"{estimate(of(rows, name, field)).value:.0f}" for field in ("polls_per_s", "requests_per_s")),
        *(f"{estimate(values).value / 1000:.1f}" for values in jitter),
        f"{max(of(rows, name, 'jitter_max_us')) / 1000:.1f}",
    ]


def _named(mode: str, block: int) -> Row:
    return {"server": mode, "block": block}


def _block(host: Running, backend: subprocess.Popen[str], seconds: float) -> Row:
    spent, began = cpu_us(host.pid), time.monotonic()
    time.sleep(seconds)
    spent, passed = cpu_us(host.pid) - spent, time.monotonic() - began
    said = _ask(backend)
    return {
        "core_share": spent / passed / 1e6,
        "cpu_us": spent / max(1.0, said["calls"]),
        "polls_per_s": said["calls"] / passed,
        "requests_per_s": said["requests"] / passed,
        **{name: said[name] for name in ("jitter_p50_us", "jitter_p99_us", "jitter_max_us")},
    }


@contextmanager
def _backend(methods: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    port = free_port()
    command = [compiled("backend"), str(port), str(methods), str(int(1000 * INTERVAL_S))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield port, process
        finally:
            process.kill()


def _ask(backend: subprocess.Popen[str]) -> dict[str, float]:
    """What the backend has seen since it was last asked."""
    assert backend.stdin is not None
    assert backend.stdout is not None
    backend.stdin.write("\n")
    backend.stdin.flush()
    return {
        name: float(value) for name, _, value in (pair.partition("=") for pair in backend.stdout.readline().split())
    }


def _settings(port: int, sources: int, batch: str) -> str:
    backend = f'[backends.bench]\nurl = "http://127.0.0.1:{port}/rpc"\nbatch = {batch}\n'
    source = '[sources."bench.s{n}"]\nbackend = "bench"\nmethod = "m{n}"\ninterval_s = {interval_s}\n'
    return backend + "".join(source.format(n=number, interval_s=INTERVAL_S) for number in range(sources))


POLL = Scenario(
    "poll",
    "1,000 sources at 1 s on one backend, batched and not (--subscribers: sources)",
    Choice(("tidegate",), subscribers=1000, blocks=3, seconds=8.0),
    run,
    table,
)
