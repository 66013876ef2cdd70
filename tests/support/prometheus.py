"""A real Prometheus in a folder of its own, on loopback, which a test asks over its HTTP API."""

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from deployed import RULES
from programs import until
from real_services.running import free_ports

END_S = 20.0


class Sample(NamedTuple):
    """One series of an answer, with its value."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """One that runs, at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: object) -> Any:
        """The `data` of an answer of the API. Raises `OSError`, and `ValueError` for a query that is refused."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=END_S) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Sample]:
        """The result of an instant query."""
        result = self.ask("query", query=expression)["result"]
        return [Sample(series["metric"], float(series["value"][1])) for series in result]

    def sum(self, expression: str) -> float:
        """The sum over all series of an instant query."""
        return sum(sample.value for sample in self.query(expression))

    def course(self, expression: str, *, start: float, end: float, step_s: float) -> list[Any]:
        """The result of a range query, as the API has it."""
        found: list[Any] = self.ask("query_range", query=expression, start=start, end=end, step=step_s)["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}


@contextmanager
def prometheus(configuration: str, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with this configuration, which may name files in `folder`, until the context ends."""
    (port,) = free_ports(1)
    (folder / "prometheus.yml").write_text(configuration)
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        running = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: _is_ready(running, process), what=folder / "prometheus.log")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(running: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "Prometheus has ended"
    try:
        running.query("vector(1)")
    except OSError:
        return False
    return True


def faster_rules(by: int) -> str:
    """The rules that we ship, with every duration divided by `by`, those in expressions included."""

    def divided(match: re.Match[str]) -> str:
        return f"{int(match[1]) * _SECONDS[match[2]] * 1000 // by}ms"

    def quickened(line: str) -> str:
        if line.lstrip().startswith(("#", "summary:", "description:")):
            return line
        line = re.sub(r"\b(\d+)([smhd])\b", divided, line)
        line = re.sub(r"(?<=_timestamp_seconds > )60\b", str(60 / by), line)
        return re.sub(r"\b86400\b", str(86400 // by), line)

    return "".join(quickened(line) + "\n" for line in RULES.read_text(encoding="utf-8").splitlines())


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
