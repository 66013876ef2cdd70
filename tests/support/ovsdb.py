"""A real OVSDB server with a small database of switch ports: JSON-RPC 1.0 over TCP and a Unix socket (RFC 7047)."""

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

_SERVER = shutil.which("ovsdb-server", path="/usr/sbin:/usr/bin")
needs_ovsdb = pytest.mark.skipif(_SERVER is None, reason="needs Debian's openvswitch-common")

SCHEMA = {
    "name": "Switch",
    "version": "1.0.0",
    "tables": {"Port": {"columns": {"name": {"type": "string"}, "up": {"type": "boolean"}}, "isRoot": True}},
}


class Ovsdb:
    """The server, as an ordinary process. It keeps its port and its data over a restart."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "db.sock"
        self._database = folder / "switch.db"
        schema = folder / "switch.ovsschema"
        schema.write_text(json.dumps(SCHEMA))
        subprocess.run(["ovsdb-tool", "create", self._database, schema], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = subprocess.Popen(
            [
                _SERVER or "ovsdb-server",
                self._database,
                f"--remote=ptcp:{self.port}:127.0.0.1",
                f"--remote=punix:{self.socket}",
                f"--unixctl={self.socket.with_suffix('.ctl')}",
                "--no-chdir",
                "-vfile:off",
                "-vconsole:off",
                "-vsyslog:off",
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < until, "expected an OVSDB server that listens"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def insert(self, name: str, *, up: bool = True) -> None:
        self._transact({"op": "insert", "table": "Port", "row": {"name": name, "up": up}})

    def update(self, name: str, *, up: bool) -> None:
        self._transact({"op": "update", "table": "Port", "where": [["name", "==", name]], "row": {"up": up}})

    def _transact(self, operation: dict[str, Any]) -> None:
        command = ["ovsdb-client", "transact", f"unix:{self.socket}", json.dumps(["Switch", operation])]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
        assert "error" not in done.stdout, done.stdout
