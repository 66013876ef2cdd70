"""`prometheus.yml` as it is: over TLS, with a token; and what happens with a token that is not enough."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import certificates
import pytest
import yaml
from deployed import PROMETHEUS, RULES, alerts, needs_prometheus
from programs import tidegate, until
from prometheus import Prometheus, prometheus

pytestmark = [pytest.mark.real, needs_prometheus]

EXAMPLE = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")

TOKENS = {"scrape": "a-token-that-may-read-all", "narrow": "a-token-of-one-type-only"}

GATEWAY = """
[server]
port = 0
state_dir = ""
tls_cert_file = "server.pem"
tls_key_file = "server.pem"
[backends.nas]
url = "http://127.0.0.1:9/rpc"
[sources."nas.status"]
backend = "nas"
method = "status"
interval_s = 1.0
[sources."nas.pools"]
backend = "nas"
method = "pools"
interval_s = 1.0
[auth]
mode = "token"
[[auth.tokens]]
token_file = "scrape.token"
roles = ["subscriber"]
[[auth.tokens]]
token_file = "narrow.token"
roles = ["subscriber"]
types = ["nas.status"]
"""

OTHERS = """\
- job_name: narrow
  scheme: https
  tls_config: {{ca_file: ca.pem}}
  authorization: {{credentials_file: narrow.token}}
  static_configs: [{{targets: ['{target}']}}]
- job_name: wrong
  scheme: https
  tls_config: {{ca_file: ca.pem}}
  authorization: {{credentials_file: wrong.token}}
  static_configs: [{{targets: ['{target}']}}]
- job_name: untrusted
  scheme: https
  tls_config: {{ca_file: other.pem}}
  authorization: {{credentials_file: scrape.token}}
  static_configs: [{{targets: ['{target}']}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files that the example names, and those of the gateway."""
    made = tmp_path_factory.mktemp("scraping")
    certificates.written_to(made)
    for name, token in {**TOKENS, "wrong": "a-token-that-nobody-knows"}.items():
        (made / f"{name}.token").write_text(token)
        (made / f"{name}.token").chmod(0o600)
    (made / RULES.name).write_text(RULES.read_text(encoding="utf-8"))
    (made / "tidegate.toml").write_text(GATEWAY)
    return made


@pytest.fixture(scope="module")
def scraped(folder: Path) -> Iterator[Prometheus]:
    """A Prometheus whose targets have all been scraped once."""
    with tidegate("serve", "--config", "tidegate.toml", folder=folder) as gateway:
        line = until(
            lambda: next((line for line in gateway.log if line["event"] == "listening"), None), what=gateway.err
        )
        target = str(line["url"]).removeprefix("https://")
        assert "127.0.0.1:12080" in EXAMPLE
        text = EXAMPLE.replace("127.0.0.1:12080", target) + OTHERS.format(target=target)
        text = text.replace("scrape_interval: 15s", "scrape_interval: 1s")
        with prometheus(text, folder) as running:
            until(lambda: len(running.query("up")) == 4 and running.query("count_over_time(up[1m]) >= 2"))
            yield running


def test_promtool_takes_the_example(folder: Path) -> None:
    (folder / "example.yml").write_text(EXAMPLE)
    done = subprocess.run(
        ["promtool", "check", "config", "example.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 rules found" in done.stdout


def test_rules_look_for_the_job_of_the_example() -> None:
    (job,) = [scrape["job_name"] for scrape in yaml.safe_load(EXAMPLE)["scrape_configs"]]
    assert f'up{{job="{job}"}}' in RULES.read_text(encoding="utf-8")


def test_the_example_scrapes_over_tls_with_its_token(scraped: Prometheus) -> None:
    up = {sample.labels["job"]: sample.value for sample in scraped.query("up")}
    assert up == {"tidegate": 1, "narrow": 1, "wrong": 0, "untrusted": 0}
    assert scraped.query('tidegate_certificate_expiry_timestamp_seconds{job="tidegate"} > time()')


def test_a_token_with_types_sees_too_little_for_the_alerts(scraped: Prometheus) -> None:
    names = {
        job: {sample.labels["__name__"] for sample in scraped.query(f'{{job="{job}", __name__=~"tidegate_.+"}}')}
        for job in ("tidegate", "narrow")
    }
    assert names["narrow"] < names["tidegate"]
    assert {"tidegate_source_stale", "tidegate_breaker_state", "tidegate_build_info"} <= names["narrow"]
    hidden = names["tidegate"] - names["narrow"]
    assert {"tidegate_refusals_total", "tidegate_loop_lag_seconds_bucket", "tidegate_resumes_total"} <= hidden
    incomplete = scraped.query(alerts()["TidegateScrapeIncomplete"]["expr"])
    assert [sample.labels["job"] for sample in incomplete] == ["narrow"]
    types = {sample.labels["type"] for sample in scraped.query('tidegate_source_stale{job="narrow"}')}
    assert types == {"nas.status"}
