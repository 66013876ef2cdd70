"""Network UPS Tools' server with two supplies of its dummy driver, as Debian's package nut-server has them."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

UPSD, DRIVER = Path("/lib/nut/upsd"), Path("/lib/nut/dummy-ups")  # /usr/sbin/upsd reads the settings of the machine

PATIENCE_S = 20.0

SUPPLY = "ups.model: 1500\nups.serial: 00042\nups.status: OL\nbattery.charge: 97.50\nTIMER 300\n"


class Upsd:
    """A server on `port` that can be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._server = self.program(UPSD)
        until = time.monotonic() + PATIENCE_S
        while b"rack" not in self._listed():
            assert time.monotonic() < until, "upsd does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        if self._server is not None:
            end(self._server)
            self._server = None

    def program(self, path: Path, *arguments: str) -> subprocess.Popen[bytes]:
        folder = str(self._folder)
        environ = {**os.environ, "NUT_CONFPATH": folder, "NUT_STATEPATH": folder, "NUT_ALTPIDPATH": folder}
        command = [str(path), *arguments, "-F", "-u", getpass.getuser()]
        with (self._folder / f"{path.name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environ, stdin=subprocess.DEVNULL)

    def _listed(self) -> bytes:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as asking:
            asking.sendall(b"LIST VAR rack\n")
            return asking.recv(4096)
        return b""


@contextlib.contextmanager
def upsd() -> Iterator[Upsd]:
    """A server that runs, and its drivers. Skips the test where there is none."""
    if not (UPSD.exists() and DRIVER.exists()):
        pytest.skip("upsd is not installed (Debian: nut-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="nut-"))  # short: sockets of drivers are in it
    supplies = ""
    for name in ("rack", "desk"):
        (folder / f"{name}.dev").write_text(SUPPLY)
        supplies += f"[{name}]\n  driver = dummy-ups\n  port = {folder}/{name}.dev\n"
    (folder / "ups.conf").write_text(supplies)
    (folder / "upsd.conf").write_text(f"LISTEN 127.0.0.1 {port}\n")
    (folder / "upsd.users").write_text("")
    for file in folder.iterdir():
        file.chmod(0o600)
    server, drivers = Upsd(folder, port), []
    try:
        drivers = [server.program(DRIVER, "-a", name) for name in ("rack", "desk")]
        server.start()
        yield server
    finally:
        server.kill()
        for driver in drivers:
            end(driver)
        shutil.rmtree(folder, ignore_errors=True)


def end(program: "subprocess.Popen[bytes]") -> None:
    program.kill()
    program.wait()
