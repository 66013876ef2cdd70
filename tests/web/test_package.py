"""The JavaScript client as others get it: one file that is made of its sources, and the package for npm."""

import asyncio
import json
import shutil
import tomllib
from pathlib import Path

import pytest
from javascript import CLIENT, PACKAGE, ROOT, TSC, WEB, needs, needs_npm, run

from tidegate.testing import gateway

CONSUMER = Path(__file__).parent / "consumer/consumer.ts"

FOLLOW = """
import { connect } from "tidegate";

const client = connect(process.argv[2], { transport: "sse" });
const states = [];
client.onStatus((status) => states.push(status.state));
client.on("lab.*", (event) => {
  console.log(JSON.stringify({ type: event.type, data: event.data, states }));
  client.close();
});
await client.ready();
await client.publish("lab.door", { open: true });
"""


def test_the_package_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = json.loads((PACKAGE / "package.json").read_text())
    assert {key: package[key] for key in ("name", "version", "license")} == {
        key: project[key] for key in ("name", "version", "license")
    }


@pytest.mark.real
@needs("esbuild")
def test_the_client_is_made_of_its_sources(tmp_path: Path) -> None:
    run("tools/build-client", tmp_path / "client.js")
    assert (tmp_path / "client.js").read_bytes() == CLIENT.read_bytes(), "run tools/build-client"


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of a program that has the packed package installed."""
    folder = tmp_path_factory.mktemp("consumer")
    [packed] = json.loads(run("npm", "pack", PACKAGE, "--json", "--pack-destination", folder, cwd=folder))
    assert {file["path"] for file in packed["files"]} == {
        *("LICENSE", "README.md", "client.d.ts", "client.js", "package.json")
    }
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    run("npm", "install", "--no-audit", "--no-fund", folder / packed["filename"], cwd=folder)
    shutil.copy(CONSUMER, folder)
    return folder


@pytest.mark.real
@needs_npm
def test_the_package_is_the_file_that_the_gateway_serves(consumer: Path) -> None:
    for name in ("client.js", "client.d.ts"):
        assert (consumer / "node_modules/tidegate" / name).read_bytes() == (WEB / name).read_bytes()
        assert not (PACKAGE / name).exists()  # no copy is left behind


@pytest.mark.real
@needs_npm
@needs("typescript")
@pytest.mark.parametrize("resolution", [("esnext", "bundler"), ("nodenext", "nodenext")])
def test_a_program_in_typescript_compiles_against_the_package(consumer: Path, resolution: tuple[str, str]) -> None:
    module, how = resolution
    flags = ["--ignoreConfig", "--noEmit", "--strict", "--target", "es2022", "--lib", "es2023,dom", "--types", ""]
    run(TSC, *flags, "--module", module, "--moduleResolution", how, "consumer.ts", cwd=consumer)


@pytest.mark.real
@needs_npm
async def test_a_program_in_node_follows_a_real_gateway_with_the_package(consumer: Path) -> None:
    (consumer / "follow.mjs").write_text(FOLLOW)
    async with gateway({}) as running:
        said = await asyncio.to_thread(run, "node", "follow.mjs", running.url, cwd=consumer)
    heard = json.loads(said)
    assert (heard["type"], heard["data"]) == ("lab.door", {"open": True})
    assert "live" in heard["states"]
