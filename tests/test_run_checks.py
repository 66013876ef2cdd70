"""``tools/run-checks`` with commands that say what they were told to: what is shown of them, and how they are ended."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from programs import is_running, until

pytestmark = pytest.mark.real

RUN_CHECKS = Path(__file__).parents[1] / "tools" / "run-checks"

WAITS = """
import os, sys, time
try:
    with open("pid-of-{name}", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
except KeyboardInterrupt:
    print("{name} has cleaned up")
"""


class Folder:
    """A working copy whose checks are scripts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "tools").mkdir()
        (path / ".venv" / "bin").mkdir(parents=True)
        shutil.copy(RUN_CHECKS, path / "tools")
        for name in ("ruff", "mypy", "lint-imports"):
            self.write(f".venv/bin/{name}", "echo all is well")
        self.write("tools/check-pythons", "echo 'skipped: Python 3.12, which is not here'")
        self.pytest()

    def write(self, name: str, script: str) -> None:
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)

    def pytest(self, computing: str = "", waiting: str = "", heavy: str = "") -> None:
        """Let the three runs of pytest do that."""
        self.write(
            ".venv/bin/pytest",
            f"""case "$*" in
*"not real"*)
{computing or "echo '4 passed, 6800 deselected in 0.10s'"}
;;
*--ignore*)
{waiting or "echo '2 passed, 1 skipped, 6800 deselected in 75.10s (0:01:15)'"}
;;
*)
{heavy or "echo '1 passed in 0.10s'"}
;;
esac""",
        )

    def waits(self, name: str) -> str:
        """A script that waits, and says so when it is interrupted."""
        (self.path / f"{name}.py").write_text(WAITS.format(name=name))
        return f"exec '{sys.executable}' {name}.py"

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.path / "tools" / "run-checks")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def process(self, name: str) -> int | None:
        """The process id of what waits under that name, once it does."""
        file = self.path / f"pid-of-{name}"
        return int(file.read_text() or 0) if file.exists() else None


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_lanes_are_shown_one_after_the_other_and_the_tests_of_all_are_counted(folder: Folder) -> None:
    folder.pytest(waiting="echo 'SKIPPED [1] here: no browser'; echo 3 passed in 2.00s")
    with folder.start() as checks:
        out, _ = checks.communicate(timeout=60)
    assert checks.returncode == 0, out
    lines = out.splitlines()
    said = [line for line in lines if not line.startswith(("ruff", "mypy", "lint", "tools", "pytest", " "))]
    assert said == [
        *["all is well"] * 4,
        "skipped: Python 3.12, which is not here",
        "1 passed in 0.10s",
        "4 passed, 6800 deselected in 0.10s",
        "SKIPPED [1] here: no browser",
        "3 passed in 2.00s",
        "skipped: Python 3.12, which is not here",
        "SKIPPED [1] here: no browser",
        "8 passed",
    ]
    assert [line.split()[2] for line in lines if line.startswith("    0 s")] == [
        *("ruff", "ruff", "mypy", "lint-imports", "tools/check-pythons", "pytest", "pytest", "pytest")
    ]


@pytest.mark.parametrize(("failing", "other"), [("computing", "waiting"), ("waiting", "computing")])
def test_what_fails_ends_the_other_lane_which_cleans_up(folder: Folder, failing: str, other: str) -> None:
    fails = f"while [ ! -s pid-of-{other} ]; do sleep 0.01; done; echo 1 failed in 0.10s; exit 3"
    folder.pytest(**{failing: fails, other: folder.waits(other)})
    with folder.start() as checks:
        out, _ = checks.communicate(timeout=60)
    assert checks.returncode == 3, out
    assert f"{other} has cleaned up" in out
    assert out.splitlines()[-1].endswith("1 failed")
    took = [line for line in out.splitlines() if " s  pytest " in line]
    assert sorted(line.rpartition(": ")[2] for line in took if ": " in line) == ["failed", "interrupted"]
    process = folder.process(other)
    assert process
    assert not is_running(process)


def test_a_test_with_real_processes_that_fails_once_is_named_as_unsteady(folder: Folder) -> None:
    folder.pytest(
        waiting="""case "$*" in
*--last-failed*) echo '1 passed, 6800 deselected in 0.10s' ;;
*) echo 'FAILED tests/test_it.py::test_one - too late'; echo '1 failed, 2 passed in 1.00s'; exit 1 ;;
esac"""
    )
    with folder.start() as checks:
        out, _ = checks.communicate(timeout=60)
    assert checks.returncode == 0, out
    assert out.splitlines()[-2:] == ["unsteady: FAILED tests/test_it.py::test_one - too late", "8 passed"]


@pytest.mark.parametrize("lane", ["waiting", "heavy"])
def test_a_test_with_real_processes_that_fails_twice_fails(folder: Folder, lane: str) -> None:
    fails = "echo 'FAILED tests/test_it.py::test_one - wrong'; echo '1 failed in 1.00s'; exit 1"
    folder.pytest(**{lane: fails})
    with folder.start() as checks:
        out, _ = checks.communicate(timeout=60)
    assert checks.returncode == 1, out
    assert "unsteady" not in out
    assert out.splitlines()[-2].startswith("FAILED tests/test_it.py::test_one - wrong")


def test_a_test_without_real_processes_that_fails_is_not_run_again(folder: Folder) -> None:
    folder.pytest(computing="echo 'FAILED tests/test_it.py::test_one - wrong'; echo '1 failed in 1.00s'; exit 1")
    with folder.start() as checks:
        out, _ = checks.communicate(timeout=60)
    assert checks.returncode == 1, out
    assert "--last-failed" not in out


def test_what_fails_before_the_tests_ends_them(folder: Folder) -> None:
    folder.pytest(waiting=folder.waits("waiting"))
    folder.write(".venv/bin/mypy", "while [ ! -s pid-of-waiting ]; do sleep 0.01; done; exit 1")
    with folder.start() as checks:
        out, _ = checks.communicate(timeout=60)
    assert checks.returncode == 1, out
    assert "waiting has cleaned up" in out
    assert "lint-imports" not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_lanes(folder: Folder, number: signal.Signals) -> None:
    folder.pytest(computing=folder.waits("computing"), waiting=folder.waits("waiting"))
    with folder.start() as checks:
        processes = [until(partial(folder.process, name)) for name in ("computing", "waiting")]
        os.kill(checks.pid, number)
        out, _ = checks.communicate(timeout=60)
    assert checks.returncode == 128 + signal.SIGINT
    assert "computing has cleaned up" in out
    assert "waiting has cleaned up" in out
    assert not any(map(is_running, processes))
