"""The fixtures, and the documentation's examples, in suites of other people: pytest in a process of its own."""

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tidegate.testing.contracts import BackendContract

PAGE = Path(__file__).parent.parent / "docs" / "testing.md"

CANNOT_SHOW = 14
"""So many promises the page's thermometer has no method to show: it neither fails, hangs, prepares nor knocks."""

ASYNCIO = "pytestmark = pytest.mark.asyncio"
ANYIO = 'pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]'

FIXTURE_TEST = """
import asyncio
import pytest
from tidegate.testing import ScriptedBackend

{marks}
loops = []

@pytest.fixture
def tidegate_backends():
    return {{"engine": ScriptedBackend(lambda call: loops.append(asyncio.get_running_loop()))}}

@pytest.fixture
def tidegate_config():
    return {{"sources": {{"a": {{"backend": "engine", "method": "m"}}}}}}

async def test_it_runs_in_the_loop_of_the_test(tidegate_gateway):
    assert loops == [asyncio.get_running_loop()]
    async with tidegate_gateway.follow("a") as events:
        assert (await events.next()).data is None
"""


def run_pytest(directory: Path, *arguments: str, plugins: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the tests in `directory` with these plugins and no others, warnings as errors."""
    chosen = [argument for plugin in plugins for argument in ("-p", plugin)]
    if "pytest_asyncio.plugin" in plugins:
        chosen += ["-o", "asyncio_default_fixture_loop_scope=function"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *chosen, *arguments],
        check=False,
        cwd=directory,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_pytest_finds_it() -> None:
    (found,) = entry_points(group="pytest11", name="tidegate")
    assert found.value == "tidegate.pytest_plugin"


@pytest.mark.real
def test_the_examples_of_the_documentation_run(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    examples = [block for block in blocks if "BackendContract" not in block]
    (tmp_path / "test_page.py").write_text("\n".join(blocks))
    done = run_pytest(tmp_path, "-o", "asyncio_mode=auto", plugins=("pytest_asyncio.plugin", "tidegate.pytest_plugin"))
    assert done.returncode == 0, done.stdout + done.stderr
    inherited = [name for name in vars(BackendContract) if name.startswith("test_")]
    kept = len(inherited) - CANNOT_SHOW
    assert f"{len(examples) + kept} passed, {CANNOT_SHOW} skipped" in done.stdout


@pytest.mark.real
@pytest.mark.parametrize(
    ("marks", "plugins"),
    [
        (ASYNCIO, ("pytest_asyncio.plugin",)),
        (ANYIO, ("anyio.pytest_plugin",)),
        (ANYIO, ("anyio.pytest_plugin", "pytest_asyncio.plugin")),
    ],
    ids=["asyncio, strict", "anyio", "anyio beside asyncio"],
)
def test_the_fixture_runs_under_every_plugin(tmp_path: Path, marks: str, plugins: tuple[str, ...]) -> None:
    (tmp_path / "test_it.py").write_text(FIXTURE_TEST.format(marks=marks))
    done = run_pytest(tmp_path, plugins=(*plugins, "tidegate.pytest_plugin"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.real
def test_neither_the_package_nor_the_fakes_need_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import tidegate.testing.contracts, tidegate.cli, tidegate.app"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
