"""A real gateway whose backend is reached through the fault proxy, scraped by a real Prometheus with our rules.

The backend hangs, then it is down, while clients count what they get; at last the gateway itself is stopped. Durations
are those of an outage of eight minutes, divided by `FASTER`, like those in the rules; with ``OUTAGE_FASTER=1`` in the
environment they are whole.
"""

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counting import Counting, SseCounting, WebSocketCounting
from programs import Program, tidegate, until
from prometheus import Prometheus, faster_rules, prometheus

FASTER = int(os.environ.get("OUTAGE_FASTER", "30"))

HUNG_S = 480 / FASTER

SCRAPE_S = 15 / FASTER

PATIENCE_S = max(60.0, 1200 / FASTER)

INTERVAL_S = 0.5

AWAY = ("TidegateSourceStale", "TidegateBreakerNotClosed")
"""What fires while the backend is away for long."""

SOURCES = {"nas.status": "system.status", "nas.methods": "rpc.discover"}

GATEWAY = """
[server]
port = 0
state_dir = "state"
heartbeat_interval_s = 1.0
[limits]
rpc_error_interval_s = 0.0
[backends.nas]
url = "{url}/rpc"
timeout_s = 1.0
[backends.nas.breaker]
failure_threshold = 3
open_s = 0.5
open_max_s = 1.0
"""

SOURCE = """
[sources."{name}"]
backend = "nas"
method = "{method}"
interval_s = {interval}
stale_repeat = false
"""

PROMETHEUS = """
global: {{scrape_interval: {scrape}ms, scrape_timeout: {scrape}ms, evaluation_interval: {scrape}ms}}
rule_files: [rules.yml]
scrape_configs: [{{job_name: tidegate, static_configs: [{{targets: ["{target}"]}}]}}]
"""


@dataclass
class Outage:
    """What was seen of `gateway`, whose configuration is in `file`.

    `hung` are the alerts that fired at the end of the hang, `left` those when all was well again, and `resolved` those
    that fired and ended. `began` and `ended` are Unix times; Prometheus has samples from in between.
    """

    gateway: Program
    file: Path
    prometheus: Prometheus
    proxy: str
    clients: list[Counting]
    began: float
    ended: float = 0.0
    hung: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    resolved: set[str] = field(default_factory=set)
    stale_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By type, the seconds that it counted before the outage and after it."""

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls that the fault proxy has seen, with how they ended."""
        found: list[dict[str, Any]] = []
        while page := ask(f"{self.proxy}/calls?after={found[-1]['number'] if found else 0}")["calls"]:
            found += page
        return found


@contextmanager
def outage(folder: Path) -> Iterator[Outage]:
    """Everything, from the start until after the outage; it still runs while the context is open."""
    with ExitStack() as stack:
        engine = stack.enter_context(tidegate("engine", "--port", "0", "--state-dir", "", folder=folder))
        upstream = until(lambda: _address(engine), what=engine.err)
        proxy = stack.enter_context(
            tidegate("faultproxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--control", "127.0.0.1:0")
        )
        until(lambda: proxy.out, what=proxy.err)
        addresses = json.loads(proxy.out[0])
        sources = "".join(
            SOURCE.format(name=name, method=method, interval=INTERVAL_S) for name, method in SOURCES.items()
        )
        (folder / "tidegate.toml").write_text(GATEWAY.format(url=addresses["url"]) + sources)
        gateway = stack.enter_context(tidegate("serve", "--config", "tidegate.toml", folder=folder))
        target = gateway.url.removeprefix("http://")
        (folder / "rules.yml").write_text(faster_rules(FASTER))
        watcher = stack.enter_context(
            prometheus(PROMETHEUS.format(target=target, scrape=round(1000 * SCRAPE_S)), folder)
        )
        over = Outage(gateway, folder / "tidegate.toml", watcher, addresses["control"], [], time.time())
        _run(over)
        yield over


def _run(over: Outage) -> None:
    url, watcher = over.gateway.url, over.prometheus
    returning = WebSocketCounting(url, "*")
    narrow = WebSocketCounting(url, "nas.*,heartbeat")  # without heartbeats it would not hear that nothing is missing
    over.clients += [WebSocketCounting(url, "*"), returning, narrow, SseCounting(url, "*")]
    is_fresh = "sum(tidegate_source_stale) == 0 and count(tidegate_source_stale) == 2"
    _settled(watcher, is_fresh)
    before = _stale_seconds(watcher)

    _refused(url)

    hung_at = time.monotonic()
    ask(f"{over.proxy}/faults/black_hole", method="PUT")
    _eventually(lambda: watcher.query("sum(tidegate_source_stale) == 2"), what="not stale")
    returning.leave()
    _fires(over, *AWAY)
    returning.come_back()
    time.sleep(max(0.0, HUNG_S - (time.monotonic() - hung_at)))
    over.hung = watcher.firing()

    ask(f"{over.proxy}/faults", method="DELETE")
    _resolves(over, *AWAY)
    _refused_configuration(over)
    ask(f"{over.proxy}/faults/down", method="PUT")
    _eventually(lambda: watcher.query('tidegate_polls_total{outcome="RPC_DISCONNECT"} > 1'), what="not refused")
    ask(f"{over.proxy}/faults", method="DELETE")
    _settled(watcher, is_fresh)
    over.left = watcher.firing()
    after = _stale_seconds(watcher)
    over.stale_s = {name: (before[name], after[name]) for name in after}

    ask(f"{url}/api/v1/circuit-breaker/nas/force-open", method="POST")
    _quiet(over)
    over.ended = time.time()
    over.gateway.signal(signal.SIGSTOP)
    _fires(over, "TidegateDown")
    over.gateway.signal(signal.SIGCONT)
    _resolves(over, "TidegateDown")


def _refused(url: str) -> None:
    """Be refused once, for a name that the gateway does not have."""
    request = urllib.request.Request(f"{url}/api/v1/status", headers={"Host": "gateway.invalid"})
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=20).close()


def _refused_configuration(over: Outage) -> None:
    """Reload an empty file, which is refused, and then the same file as before."""
    text = over.file.read_text()
    over.file.write_text("")
    over.gateway.signal(signal.SIGHUP)
    _fires(over, "TidegateReloadFailed")
    over.file.write_text(text)
    over.gateway.signal(signal.SIGHUP)
    _resolves(over, "TidegateReloadFailed")


def _fires(over: Outage, *names: str) -> None:
    """Wait until the alerts `names` fire."""
    _eventually(lambda: over.prometheus.firing().issuperset(names), what=f"{names} do not fire")


def _resolves(over: Outage, *names: str) -> None:
    """Wait until none of the alerts `names` fires."""
    _eventually(lambda: over.prometheus.firing().isdisjoint(names), what=f"{names} do not resolve")
    over.resolved.update(names)


def _quiet(over: Outage) -> None:
    """Wait until nothing is published any more but heartbeats, and everybody has it, Prometheus too."""
    newest = -1

    def is_at_rest() -> bool:
        nonlocal newest
        before, newest = newest, ask(f"{over.gateway.url}/api/v1/status")["seq"]
        return before == newest and all(client.seq >= newest for client in over.clients)

    _eventually(is_at_rest, what="events go on")
    time.sleep(3 * SCRAPE_S)


def _eventually(condition: Callable[[], object], *, what: object) -> None:
    """Like `until`, but it asks only once a scrape."""

    def is_met() -> object:
        time.sleep(SCRAPE_S)
        return condition()

    until(is_met, what=what, patience_s=PATIENCE_S)


def _settled(watcher: Prometheus, condition: str) -> None:
    """Wait until `condition` has held for a few scrapes."""
    scrape_ms = round(1000 * SCRAPE_S)
    lasting = f"count_over_time(({condition})[{4 * scrape_ms}ms:{scrape_ms}ms]) >= 4"
    _eventually(lambda: watcher.query(lasting), what=condition)


def _stale_seconds(watcher: Prometheus) -> dict[str, float]:
    return {sample.labels["type"]: sample.value for sample in watcher.query("tidegate_source_stale_seconds_total")}


def _address(engine: Program) -> str | None:
    """The origin that the engine says it listens at."""
    for line in engine.log:
        if "/rpc" in line["event"]:
            return "http://" + str(line["event"]).split("http://")[1].removesuffix("/rpc")
    return None


def ask(url: str, *, method: str = "GET") -> Any:
    """The JSON of an answer; None if it is empty."""
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20) as answer:
        body = answer.read()
        return json.loads(body) if body else None
