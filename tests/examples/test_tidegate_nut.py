"""The example of a plug-in, installed as a stranger would, with the server of Network UPS Tools."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from upsd import Upsd, upsd

from tidegate.client import Event, connect

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
CANARY = "c4n4ry-of-the-rack"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "PYTHON"))}


class Stranger:
    """A venv of its own with the plug-in in it, and a copy of its project. Our packages are seen from there."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "tidegate-nut"
        self.python = folder / "venv/bin/python"
        shutil.copytree(ROOT / "examples/tidegate-nut", self.project)
        venv.create(folder / "venv", symlinks=True)
        [packages] = (folder / "venv/lib").glob("python*/site-packages")
        # What Tidegate needs comes from here, and from no registry. `addsitedir` reads the path files there too.
        (packages / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        install = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", str(self.project)]
        done = self.run(sys.executable, "-m", "pip", "--python", str(self.python), *install)
        assert done.returncode == 0, done.stderr

    def run(self, *command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=ENVIRON)

    def tidegate(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run(str(self.python), "-m", "tidegate", *arguments)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    return Stranger(tmp_path_factory.mktemp("stranger"))


def written(folder: Path, port: int, nut_port: int) -> str:
    """The path of a configuration."""
    (folder / "nut.password").write_text(CANARY)
    (folder / "nut.password").chmod(0o600)
    file = folder / "tidegate.toml"
    text = (ROOT / "examples/tidegate-nut/nut.toml").read_text()
    assert "nut" in tomllib.loads(text)["backends"]
    options = f'{{ port = {nut_port}, username = "me", password = "{{password}}" }}'
    secrets = '{ password_file = "nut.password" }'
    text = text.replace('protocol = "nut"\n', f'protocol = "nut"\noptions = {options}\nsecrets = {secrets}\n')
    text = text.replace("interval_s = 5.0", "interval_s = 0.5")
    file.write_text(f'[server]\nport = {port}\nstate_dir = ""\n\n{text}')
    return str(file)


@contextlib.contextmanager
def served(stranger: Stranger, file: str, log: Path) -> Iterator[None]:
    """A gateway of the stranger's."""
    with log.open("wb") as told:
        command = [str(stranger.python), "-m", "tidegate", "serve", "--config", file]
        program = subprocess.Popen(command, stdout=told, stderr=told, env=ENVIRON)
    try:
        yield
    finally:
        program.terminate()
        assert program.wait(30) == 0


def test_its_own_tests_pass_where_it_is_installed(stranger: Stranger) -> None:
    command = [str(stranger.python), "-m", "pytest", "-p", "no:cacheprovider", "-q", "tests"]
    done = stranger.run(*command, cwd=stranger.project)
    assert done.returncode == 0, done.stdout


def test_it_is_a_protocol_only_where_it_is_installed(stranger: Stranger, tmp_path: Path) -> None:
    file = written(tmp_path, 1, 1)
    assert "no problem" in stranger.tidegate("config", "check", file).stdout
    shown = stranger.tidegate("config", "show", file).stdout
    assert 'password = "{password}"' in shown
    assert CANARY not in shown
    assert "nut.Options" in stranger.tidegate("config", "schema").stdout
    here = stranger.run(sys.executable, "-m", "tidegate", "config", "check", file)
    assert here.returncode != 0
    assert 'backends.nut.protocol: expected one of "jsonrpc", "http", or the name of a plug-in' in here.stderr


async def test_events_of_a_server_that_is_killed_and_comes_back(stranger: Stranger, tmp_path: Path) -> None:
    with upsd() as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        file, log = written(tmp_path, port, server.port), tmp_path / "log"
        bound.close()
        found = await asyncio.to_thread(stranger.tidegate, "doctor", "--config", file)
        assert found.returncode == 0, found.stdout
        assert "1 of 1 source(s) answered well" in found.stdout
        with served(stranger, file, log):
            await asyncio.wait_for(followed(server, f"http://127.0.0.1:{port}"), 90)
    assert CANARY not in log.read_text() + found.stdout


async def followed(server: Upsd, url: str) -> None:
    """What a client sees: fresh values, the last ones as stale while the server is away, and fresh ones again."""
    async with connect(url, types=["power.ups"]) as stream:
        events = (item async for item in stream if isinstance(item, Event) and item.key == "rack")
        first = await anext(event async for event in events if not event.stale)  # the supply may be asked only now
        assert first.data == {"status": "OL", "charge": 97.50}
        server.kill()
        stale = await anext(event async for event in events if event.stale)
        assert (stale.data, stale.as_of is not None) == (first.data, True)
        server.start()
        # upsd answers before its drivers have told it everything again.
        await anext(event async for event in events if not event.stale and event.data == first.data)
