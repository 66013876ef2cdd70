"""What tells of a machine: the node exporter, Glances, Open vSwitch's database, Podman."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from real_services.running import Place, Said, Service

ROOT = Path(__file__).parents[3]
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def node_command(place: Place) -> Sequence[str]:
    (place.folder / "metrics").mkdir(exist_ok=True)
    return [
        "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{place.port}",
        f"--collector.textfile.directory={place.folder / 'metrics'}",
    ]  # fmt: skip


async def node_said(place: Place) -> Said:
    samples = [line.rsplit(" ", 1) for line in (await place.text("/metrics")).splitlines() if not line.startswith("#")]
    names = {"node_load1", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"}
    return {("node.health", name): {"value": float(value)} for name, value in samples if name in names}


async def nothing(place: Place) -> None:
    """Its figures change by themselves."""


NODE_EXPORTER = Service(
    recipe="node-exporter",
    program="prometheus-node-exporter",
    package="prometheus-node-exporter",
    address="127.0.0.1:9100",
    command=node_command,
    said=node_said,
    change=nothing,
    changed=("node.health", "node_memory_MemAvailable_bytes"),
    restless=frozenset({"node.health", "node.space"}),
)


def glances_command(place: Place) -> Sequence[str]:
    file = place.file("glances.conf", "[outputs]\n")
    return [
        GLANCES.program, "-C", file, "-w", "-B", "127.0.0.1", "-p", str(place.port), "--disable-webui",
        "--disable-check-update",
    ]  # fmt: skip


async def glances_said(place: Place) -> Said:
    cpu, memory = await place.get("/api/4/cpu"), await place.get("/api/4/mem")
    return {
        ("glances.cpu", None): {name: cpu[name] for name in ("total", "user", "system", "iowait")},
        ("glances.memory", None): {name: memory[name] for name in ("percent", "available", "total")},
        **{
            ("glances.space", disk["mnt_point"]): {"percent": disk["percent"], "size": disk["size"]}
            for disk in await place.get("/api/4/fs")
        },
    }


GLANCES = Service(
    recipe="glances",
    program=str(ROOT / ".glances/bin/glances"),
    package="Glances of tools/install-check-tools",
    address="127.0.0.1:61208",
    command=glances_command,
    said=glances_said,
    change=nothing,
    changed=("glances.memory", None),
    restless=frozenset({"glances.cpu", "glances.memory", "glances.space"}),
)


def ovsdb_command(place: Place) -> Sequence[str]:
    database = place.folder / "conf.db"
    if not database.exists():
        subprocess.run(["ovsdb-tool", "create", str(database), SCHEMA], check=True)
    return [
        "ovsdb-server", str(database), f"--remote=ptcp:{place.port}:127.0.0.1", "--no-chdir",
        f"--unixctl={place.folder}/control",
    ]  # fmt: skip


async def ovsdb(place: Place, *operations: object) -> list[Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    try:
        call = {"method": "transact", "params": ["Open_vSwitch", *operations], "id": 1}
        writer.write(json.dumps(call).encode())
        said = b""
        while True:  # one JSON value, with nothing after it
            some = await reader.read(65536)
            if not some:
                raise ConnectionError("closed")
            said += some
            try:
                return list(json.loads(said)["result"])
            except ValueError:
                continue
    finally:
        writer.close()


async def ovsdb_said(place: Place) -> Said:
    select = {"op": "select", "table": "Bridge", "where": [], "columns": ["name", "stp_enable"]}
    (answer,) = await ovsdb(place, select)
    return {("ovsdb.bridge", row["name"]): row for row in answer["rows"]}


async def ovsdb_adds(place: Place) -> None:
    bridge = {"op": "insert", "table": "Bridge", "row": {"name": "br0"}, "uuid-name": "new"}
    root = {"op": "insert", "table": "Open_vSwitch", "row": {"bridges": ["named-uuid", "new"]}}
    await ovsdb(place, bridge, root)


async def ovsdb_changes(place: Place) -> None:
    where = [["name", "==", "br0"]]
    await ovsdb(place, {"op": "update", "table": "Bridge", "where": where, "row": {"stp_enable": True}})


OVSDB = Service(
    recipe="ovsdb",
    program="ovsdb-server",
    package="openvswitch-switch",
    address="127.0.0.1:6640",
    command=ovsdb_command,
    said=ovsdb_said,
    prepare=ovsdb_adds,
    change=ovsdb_changes,
    changed=("ovsdb.bridge", "br0"),
)


def podman_command(place: Place) -> Sequence[str]:
    place.file("storage.conf", '[storage]\ndriver = "vfs"\n')
    return [
        "podman", "--root", str(place.folder / "root"), "--runroot", str(place.folder / "run"),
        "--tmpdir", str(place.folder / "tmp"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
        "system", "service", "--time=0", f"unix://{place.folder / 'podman.sock'}",
    ]  # fmt: skip


def podman_connector(place: Place) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place.folder / "podman.sock")))


async def podman_said(place: Place) -> Said:
    async with podman_connector(place) as http, http.get("http://localhost/v1.41/containers/json?all=true") as response:
        response.raise_for_status()
        containers = await response.json()
    return {
        ("docker.container", one["Id"]): {"name": one["Names"][0], "image": one["Image"], "state": one["State"]}
        for one in containers
    }


async def podman_adds(place: Place) -> None:
    """A pod has a container of its own only with an image: one is made of nothing, and never started."""
    async with podman_connector(place) as http:
        empty = bytes(10240)  # a tar without files
        options = {"fromSrc": "-", "repo": "localhost/nothing", "tag": "latest"}
        async with http.post("http://localhost/v1.41/images/create", params=options, data=empty) as response:
            response.raise_for_status()
            await response.read()
        made = {"Image": "localhost/nothing:latest", "Cmd": ["/none"]}
        async with http.post(
            "http://localhost/v1.41/containers/create", params={"name": "test"}, json=made
        ) as response:
            response.raise_for_status()


DOCKER = Service(
    recipe="docker",
    program="podman",
    package="podman",
    address="/var/run/docker.sock",
    socket="podman.sock",
    command=podman_command,
    said=podman_said,
    change=podman_adds,
    changed=("docker.container", None),
)
