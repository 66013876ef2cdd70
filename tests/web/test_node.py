"""The client, and the parts of the page that need no browser, tested by `node --test`, one process for each file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(Path(__file__).parent.glob("*/*.test.mjs"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("node") is None, reason="no Node: see tools/install-check-tools"),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name.removesuffix('.test.mjs')}")
def test_its_tests_pass_under_node(file: Path) -> None:
    run = subprocess.run(["node", "--test", file], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_client_that_is_served_passes_too() -> None:
    """Names were shortened in it that its modules share."""
    files = [file for file in FILES if file.parent.name == "client"]
    environment = os.environ | {"CLIENT": str(ROOT / "src/tidegate/web/client.js")}
    run = subprocess.run(
        ["node", "--test", *files], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr
