"""The load: subscribers and the publisher, C programs on the load's core, and the lines they are driven with."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.programs import compiled
from bench.servers import Publication, Running

Counts = dict[str, float]

WINDOW = 128
"""Handshakes under way at a time where nothing else is asked for."""

CONNECT_MS = 120_000


class LoadError(Exception):
    """The load could not be put on as asked; says what is missing."""


class Subscribers:
    """Connections to one server, in one process. See ``native/load.c`` for what it counts and obeys."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, command: str) -> Counts:
        """Send one command, and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise LoadError(f"the load generator ended at `{command}`")
        return _fields(answer)

    def open(self, total: int, *, window: int = WINDOW, events: int = 0, limit_ms: int = CONNECT_MS) -> Counts:
        """Have `total` connections open, each with `events` received. Raises `LoadError` if any is missing."""
        answer = self.tell(f"open {total} {window} {events} {limit_ms}")
        if answer["ready"] != total:
            raise LoadError(f"of {total} connections {answer['ready']:.0f} opened: {answer}")
        return answer


@contextmanager
def subscribers(running: Running, *, path: str | None = None, arguments: Sequence[str] = ()) -> Iterator[Subscribers]:
    """A process for subscribers of `running`, from several addresses so that ports suffice. None is open yet."""
    command = [
        compiled("load"),
        str(running.place.port),
        "--addresses",
        "8",
        *running.server.load_arguments,
        *arguments,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        load = Subscribers(process)
        try:
            load.tell(f"path {path or running.server.path}")
            yield load
        finally:
            process.kill()


class Publisher:
    """A publisher under way. See ``native/publish.c`` for what it says at its end."""

    def __init__(self, running: Running, process: subprocess.Popen[str]) -> None:
        self._running = running
        self._process = process

    def wait(self) -> Counts:
        """Until everything is published. Raises `LoadError` if not all of it was accepted."""
        answer = _fields(self._process.communicate()[0])
        if not answer or answer["missing"]:
            raise LoadError(f"{self._running.server.name} did not accept all that was published: {answer}")
        return answer


@contextmanager
def publishing(
    running: Running, publication: Publication, *, count: int, per_s: float, cycle: int = 1
) -> Iterator[Publisher]:
    """Publish `count` times at `per_s` while the context is open, `cycle` numbers in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        template, preamble = Path(folder, "template"), Path(folder, "preamble")
        template.write_bytes(publication.template)
        preamble.write_bytes(publication.preamble)
        command = [
            compiled("publish"),
            str(running.server.publish_port(running.place)),
            str(template),
            str(preamble) if publication.preamble else "-",
            publication.answer,
            str(count),
            str(int(1e9 / per_s)),
            str(cycle),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield Publisher(running, process)
            finally:
                process.kill()


def publish(running: Running, publication: Publication, *, count: int = 1, per_s: float = 100.0) -> Counts:
    """Publish `count` times at `per_s`, and wait until that is done."""
    with publishing(running, publication, count=count, per_s=per_s) as publisher:
        return publisher.wait()


def until_subscribed(running: Running, load: Subscribers, total: int) -> None:
    """Publish until one event reached all `total` subscribers, as many as it takes for the last to be subscribed."""
    publication = running.server.publication(1, running.place.setup.payload_bytes)
    for _ in range(50):
        load.tell("reset")
        publish(running, publication)
        if load.tell(f"await {total} {300 + total // 5}")["events"] == total:
            return
    raise LoadError(f"no event reached all {total} subscribers of {running.server.name}")


def _fields(line: str) -> Counts:
    return {name: float(value) for name, _, value in (pair.partition("=") for pair in line.split())}
