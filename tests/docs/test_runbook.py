"""The runbook has a paragraph for each alert, and what it names is there: commands, routes, log lines, settings."""

import re
import shlex
from pathlib import Path

import aiohttp
import pytest
from deployed import alerts, complaints, selectors

from tidegate.cli import app
from tidegate.config import Config
from tidegate.errors import ErrorCode
from tidegate.testing import gateway

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
PARTS = ["Meaning", "Clients", "First look", "Remedy", "It resolves"]

FOREIGN = {"curl", "df", "export", "journalctl", "openssl", "systemctl", "top"}
"""Commands of others that the runbook uses."""

OTHER_CODES = {"CIRCUIT_BREAKER_OPEN"} | {code.value for code in ErrorCode}

paragraphs = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
commands = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
]
named = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
"""All that stands in backquotes in the text."""


def test_each_alert_has_its_paragraph_in_the_order_of_the_file() -> None:
    assert list(paragraphs) == list(alerts())


@pytest.mark.parametrize("name", alerts())
def test_a_paragraph_answers_the_five_questions(name: str) -> None:
    assert re.findall(r"^\*\*([\w ]+)", paragraphs[name], re.MULTILINE) == PARTS
    assert "```sh" in paragraphs[name].split("**First look.**")[1].split("**Remedy")[0]


def test_our_commands_are_there() -> None:
    ours = [shlex.split(line) for line in commands if line.startswith("tidegate ")]
    assert ours
    for words in ours:
        app.parse_args(words[1:], exit_on_error=False, print_error=False)
    others = {line.split()[0] for line in commands} - {"tidegate"}
    assert others == FOREIGN


async def test_the_routes_are_there() -> None:
    asked = {
        ("post" if " -X POST " in line else "get", found[1])
        for line in commands
        if line.startswith("curl ") and (found := re.search(r"\$TIDEGATE_URL(/\S*)", line))
    }
    async with (
        gateway({}) as running,
        aiohttp.ClientSession(running.url) as session,
        session.get("/openapi.json") as response,
    ):
        paths = (await response.json())["paths"]
    there = {(method, re.sub(r"{\w+}", r"[^/]+", path)) for path, item in paths.items() for method in item}
    missing = {
        (method, path)
        for method, path in asked
        if not any(method == m and re.fullmatch(pattern, path) for m, pattern in there)
    }
    assert len(asked) >= 6
    assert not missing


def test_the_log_lines_are_there() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/tidegate").rglob("*.py"))
    lines = {name for name in named if re.fullmatch(r"[a-z]+(,? [a-z]+)+", name)}
    lines |= set(re.findall(r"log[^.`]*`([a-z ]+)`", PAGE))
    lines -= {"tidegate doctor"}
    assert len(lines) >= 7
    assert {line for line in lines if f'"{line}"' not in source} == set()


def test_the_settings_are_there() -> None:
    settings = {name for name in named if re.fullmatch(r"(server|limits|history|auth)\.[a-z_]+", name)}
    assert len(settings) >= 6
    for name in settings:
        section, key = name.split(".")
        assert hasattr(getattr(Config(), section), key), name


def test_the_codes_are_there() -> None:
    codes = {name for name in named if re.fullmatch(r"[A-Z]+(_[A-Z]+)*", name)} - {"TIDEGATE_TOKEN"}
    assert {"RPC_TIMEOUT", "OVERDUE"} <= codes
    assert codes <= OTHER_CODES


def test_the_metrics_are_there() -> None:
    used = [selector for name in named for selector in selectors(name)]
    assert len(used) >= 4
    assert [complaint for selector in used for complaint in complaints(selector)] == []
