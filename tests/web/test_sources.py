"""The JavaScript of this project: its types, the length of its functions, and how much of it a browser has to load."""

import gzip
import json
import re
from pathlib import Path

import pytest
from javascript import CLIENT, CLIENT_SOURCES, PAGE_SCRIPTS, TSC, WEB, needs, run

FUNCTION_LINES = 40
"""As in Python (tests/test_architecture.py)."""

ELSEWHERE = ("client.js", "client.d.ts", "value.js", "embed.html", "embed.css", "embed.js")
"""The files that are not part of the dashboard, or not its own."""

NEEDED = re.compile(r"""(?:\bfrom\s*|^import\s*|\bsrc=|<link [^>]*\bhref=)["'](?:\./)?([\w.-]+)["']""", re.MULTILINE)
"""What a page or a module needs. ``import()`` is for what is shown later, but for `values.js`."""


def gzipped(file: Path) -> int:
    return len(gzip.compress(file.read_bytes(), 9))


def first_load() -> set[Path]:
    """The files that a browser loads before it shows the first values."""
    found: set[Path] = set()
    waiting = [WEB / "index.html", WEB / "values.js"]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            if file != CLIENT and file.suffix in {".html", ".js"}:
                waiting += [WEB / name for name in NEEDED.findall(file.read_text(encoding="utf-8"))]
    return found


def test_the_client_is_small() -> None:
    assert CLIENT.stat().st_size <= 28_000
    assert gzipped(CLIENT) <= 9_000


@pytest.mark.real
@needs("esbuild")  # which tells that Node is there
def test_the_client_takes_8_kb_in_the_best_compression() -> None:
    script = "console.log(require('zlib').brotliCompressSync(require('fs').readFileSync(process.argv[1])).length)"
    assert int(run("node", "-e", script, str(CLIENT))) < 8_050


def test_the_page_is_small() -> None:
    page = {*WEB.iterdir()} - {WEB / name for name in ELSEWHERE}
    assert sum(map(gzipped, page)) <= 90_000


def test_little_is_loaded_before_values_are_shown() -> None:
    files = first_load()
    assert CLIENT in files
    assert sum(map(gzipped, files)) <= 56_000


@pytest.mark.real
@needs("typescript")
def test_types_are_right_in_all_scripts_and_the_client_keeps_its_declarations() -> None:
    run(TSC, "-p", "tsconfig.json")


@pytest.mark.real
@needs("acorn")
def test_functions_are_short_enough_to_hold_in_the_head() -> None:
    scripts = [*CLIENT_SOURCES, *PAGE_SCRIPTS]
    long = json.loads(run("node", "tests/support/long-functions.mjs", str(FUNCTION_LINES), *scripts))
    assert long == []
