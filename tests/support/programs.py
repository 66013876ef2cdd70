"""Tidegate's programs as real processes, for tests that are marked ``real``."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0


class Program:
    """A running ``tidegate``. `out` and `err` are its lines so far."""

    def __init__(self, *arguments: str, environ: Mapping[str, str], folder: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "default", "-m", "tidegate", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            start_new_session=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 - others read the list meanwhile

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        """Where the gateway says that it listens; waits for that."""
        pattern = re.compile(r'"listening".*"url": ?"(http://[^"]+)"|Web page: (http://\S+)/')

        def found() -> str | None:
            match = next(filter(None, map(pattern.search, self.err)), None)
            return match and (match[1] or match[2])

        return until(found, what=self.err)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log lines so far."""
        return [json.loads(line) for line in list(self.err) if line.startswith("{")]

    @property
    def engine(self) -> int | None:
        """The process id of its engine, if it has one just now."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program, and SIGINT to its whole process group, as a terminal does."""
        if number == signal.SIGINT:
            os.killpg(self.pid, number)
        else:
            self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended and said everything."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code


@contextmanager
def tidegate(*arguments: str, folder: Path | None = None, **environ: str) -> Iterator[Program]:
    """Run ``tidegate`` with these arguments, with a state directory of its own; it is killed at the end.

    Its working directory is `folder`, or ours.
    """
    with tempfile.TemporaryDirectory() as state:
        program = Program(*arguments, environ={"XDG_STATE_HOME": state, **environ}, folder=folder)
        try:
            yield program
        finally:
            program.process.kill()
            program.wait()
            assert program.process.stdout is not None
            assert program.process.stderr is not None
            program.process.stdout.close()
            program.process.stderr.close()


def until(condition: Callable[[], T | None], *, what: object = "", patience_s: float = PATIENCE_S) -> T:
    """The first true value of `condition`, which is asked again and again."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return value


def private_bytes(pid: int) -> int:
    """Memory of the process that is nobody else's."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("the kernel says nothing of private memory")


def is_running(pid: int) -> bool:
    """Whether a process of that id runs; one that has ended and is not collected yet doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
