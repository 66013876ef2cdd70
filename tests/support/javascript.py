"""Where the JavaScript is, and how tests run the tools that check it. What is not installed skips its tests."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "src/tidegate/web"
PACKAGE = ROOT / "clients/js"
CLIENT = WEB / "client.js"
"""The file that pages load. It is made of `CLIENT_SOURCES`."""

CLIENT_SOURCES = sorted(PACKAGE.glob("src/*.js"))
PAGE_SCRIPTS = sorted({*WEB.glob("*.js")} - {CLIENT})

TSC = ROOT / "node_modules/.bin/tsc"

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="no npm: see tools/install-check-tools")


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a test where `package` of the check's own `package.json` is not installed."""
    is_there = (ROOT / "node_modules" / package).exists()
    return pytest.mark.skipif(not is_there, reason=f"no {package}: see tools/install-check-tools")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run `command`, which must succeed, without asking any registry. Returns what it printed."""
    offline = {
        "npm_config_offline": "true",
        "npm_config_update_notifier": "false",
        "npm_config_cache": str(cwd / "cache"),
    }
    ended = subprocess.run(
        command, cwd=cwd, env={**os.environ, **offline}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
