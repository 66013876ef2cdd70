"""What each way to install Tidegate can do, and that what it cannot names the command that installs the rest."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from installed import PROJECT, ROOT, PartlyInstalled, requirements

from tidegate import extras
from tidegate.testing import gateway

CLIENT = {"aiohappyeyeballs", "h11", "msgspec", "websockets"}

FOLLOW_AND_PUBLISH = """
import asyncio
from tidegate.client import Connected, Event, connect, publish, readiness

async def main(url):
    assert (await readiness(url)).status == "ready"
    async with connect(url, types=["lab.*"]) as stream:
        async for item in stream:
            match item:
                case Connected():
                    position = await publish("lab.door", {"open": True}, url=url)
                case Event():
                    assert position.endswith(f":{item.seq}")
                    print(item.type, item.data)
                    return

asyncio.run(main(sys.argv[1]))
"""

LOADED = """
import json, tidegate.client
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps(sorted(name for name, file in files.items() if file and "/lib/python" not in file)))
"""


@pytest.fixture
def client_only(tmp_path: Path) -> PartlyInstalled:
    return PartlyInstalled(tmp_path)


@pytest.mark.real
def test_the_wheel_has_every_file_for_browsers(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "*.so", "__pycache__"))
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        tmp_path,
        tmp_path,
    ]
    environ = {**os.environ, "CC": "false"}  # it does without the C file, which would take the longest
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=environ)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        found = {Path(name).name: packed.read(name) for name in packed.namelist() if name.startswith("tidegate/web/")}
    assert found == {file.name: file.read_bytes() for file in (ROOT / "src/tidegate/web").iterdir()}


def test_the_lists_of_packages_are_those_of_the_project() -> None:
    assert set(extras.PACKAGES) == set(PROJECT["optional-dependencies"]) - {"all", "dev", "bench"}
    for extra, packages in extras.PACKAGES.items():
        own = set(requirements(extra)[len(PROJECT["dependencies"]) :])
        assert {requirement.name.replace("-", "_") for requirement in own} - {"tidegate"} == set(packages)


def test_a_client_brings_four_packages_and_nothing_that_they_need(client_only: PartlyInstalled) -> None:
    assert client_only.distributions == CLIENT


def test_importing_the_client_loads_its_packages_and_nothing_else(client_only: PartlyInstalled) -> None:
    ended = client_only.run(LOADED)
    assert ended.returncode == 0, ended.stderr
    loaded = json.loads(ended.stdout)
    assert {name.partition(".")[0] for name in loaded} == CLIENT | {"tidegate"}
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("tidegate")}
    assert ours <= {"tidegate", *(f"tidegate.{name}" for name in ("client", "codes", "errors", "loopback", "backoff"))}


async def test_a_client_alone_follows_publishes_and_asks_a_real_gateway(client_only: PartlyInstalled) -> None:
    async with gateway({}) as running:
        ended = await asyncio.to_thread(client_only.run, FOLLOW_AND_PUBLISH, running.url)
    assert (ended.returncode, ended.stdout) == (0, "lab.door {'open': True}\n"), ended.stderr


def test_without_the_command_line_it_says_how_to_get_it(client_only: PartlyInstalled) -> None:
    ended = client_only.tidegate("watch")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("tidegate: ")
    assert ended.stderr.endswith(" (cyclopts, rich): pip install 'tidegate[cli]'\n")


@pytest.mark.parametrize("module", ["app", "testing", "runtime.gateway", "inbound.server", "outbound.clock"])
def test_the_gateways_modules_say_which_extra_they_need(client_only: PartlyInstalled, module: str) -> None:
    ended = client_only.run(f"import tidegate.{module}")
    last = ended.stderr.rstrip().splitlines()[-1]
    assert last.startswith("tidegate.errors.MissingExtra: "), ended.stderr
    assert "litestar" in last
    assert last.endswith("pip install 'tidegate[gateway]'")


@pytest.mark.real
async def test_the_command_line_alone_serves_whoever_has_a_gateway_elsewhere(tmp_path: Path) -> None:
    installed = PartlyInstalled(tmp_path, "cli")
    async with gateway({}) as running:
        published = await asyncio.to_thread(
            installed.tidegate, "publish", "lab.door", "1", "--retain", "--url", running.url
        )
        assert published.returncode == 0, published.stderr
        watching = ["watch", running.url, "--types", "lab.*", "--count", "1"]
        watched = await asyncio.to_thread(installed.tidegate, *watching)
    assert json.loads(watched.stdout)["data"] == 1


@pytest.mark.real
@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("serve",), "gateway,engine"),
        (("serve", "--config", "tidegate.toml"), "gateway"),
        (("demo",), "gateway,engine"),
        (("doctor",), "gateway,engine"),
        (("reload", "--url", "http://127.0.0.1:1"), "gateway"),
        (("verify",), "gateway,engine"),
        (("config", "check", "PATH"), "gateway"),
        (("token", "create"), "gateway"),
        (("engine",), "engine"),
        (("engine", "jobs"), "engine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_says_which_extra_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], missing: str
) -> None:
    (tmp_path / "packages").mkdir()
    monkeypatch.chdir(tmp_path)
    installed = PartlyInstalled(tmp_path / "packages", "cli")
    if "PATH" in command:
        assert installed.tidegate("config", "init", "found.toml").returncode == 0
    ended = installed.tidegate(*("found.toml" if word == "PATH" else word for word in command))
    assert ended.returncode == 1
    assert ended.stderr.endswith(f"pip install 'tidegate[{missing}]'\n"), ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.real
def test_a_gateway_does_without_the_engines_packages(tmp_path: Path) -> None:
    installed = PartlyInstalled(tmp_path, "gateway")
    assert "aiohttp" not in installed.distributions
    code = """
import asyncio
from tidegate.testing import ScriptedBackend, gateway

async def main():
    sources = {"a.b": {"backend": "engine", "method": "x"}}
    async with gateway({"sources": sources}, backends={"engine": ScriptedBackend({"x": 7})}) as running:
        async with running.follow("a.b") as events:
            sys.exit((await events.next()).data)

asyncio.run(main())
"""
    ended = installed.run(code)
    assert ended.returncode == 7, ended.stderr
