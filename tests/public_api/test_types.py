"""The examples beside this file, as pyright sees them. mypy sees them with everything else, in ``make check``."""

import subprocess

import pytest

from public_api import ROOT

PYRIGHT = ROOT / "node_modules" / ".bin" / "pyright"


@pytest.mark.real
@pytest.mark.skipif(not PYRIGHT.exists(), reason="pyright is not installed: npm ci")
def test_pyright_agrees_with_the_examples_of_the_public_api() -> None:
    ended = subprocess.run([str(PYRIGHT)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
