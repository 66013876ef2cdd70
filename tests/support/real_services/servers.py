"""Servers: Prometheus, NATS, Syncthing, etcd."""

import asyncio
import base64
from collections.abc import Sequence

from real_services.running import Place, Said, Service

KEY = "an-api-key-of-a-minute"


def prometheus_command(place: Place) -> Sequence[str]:
    file = place.folder / "prometheus.yml"
    if not file.exists():
        prometheus_targets(place, [f"127.0.0.1:{place.port}", "127.0.0.1:9"])
    return [
        "prometheus", f"--config.file={file}", f"--storage.tsdb.path={place.folder}/data", "--web.enable-lifecycle",
        f"--web.listen-address=127.0.0.1:{place.port}",
    ]  # fmt: skip


def prometheus_targets(place: Place, targets: list[str]) -> None:
    place.file(
        "prometheus.yml",
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
        f"scrape_configs: [{{job_name: test, static_configs: [{{targets: {targets}}}]}}]\n",
    )


async def prometheus_said(place: Place) -> Said:
    targets = (await place.get("/api/v1/targets?state=active"))["data"]["activeTargets"]
    if not targets or any(target["health"] == "unknown" for target in targets):
        raise ValueError("not scraped yet")
    return {
        ("prometheus.target", f"{target['labels']['job']}/{target['labels']['instance']}"): {
            "health": target["health"],
            "error": target["lastError"],
        }
        for target in targets
    }


async def prometheus_loses_a_target(place: Place) -> None:
    prometheus_targets(place, [f"127.0.0.1:{place.port}"])
    async with place.http.post(f"{place.url}/-/reload") as response:
        response.raise_for_status()


PROMETHEUS = Service(
    recipe="prometheus",
    program="prometheus",
    package="prometheus",
    address="127.0.0.1:9090",
    command=prometheus_command,
    said=prometheus_said,
    change=prometheus_loses_a_target,
    changed=("prometheus.target", "test/127.0.0.1:9"),
)


def nats_command(place: Place) -> Sequence[str]:
    return ["nats-server", "-a", "127.0.0.1", "-p", str(place.ports[0]), "-m", str(place.port)]


async def nats_said(place: Place) -> Said:
    traffic = await place.get("/varz")
    names = ("connections", "in_msgs", "out_msgs", "in_bytes", "out_bytes", "slow_consumers")
    fields = ("name", "ip", "lang", "subscriptions")
    return {
        ("nats.health", None): await place.get("/healthz"),
        ("nats.traffic", None): {name: traffic[name] for name in names},
        **{
            ("nats.connection", str(client["cid"])): {name: client[name] for name in fields if name in client}
            for client in (await place.get("/connz?limit=1024"))["connections"]
        },
    }


async def nats_gets_a_client(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.ports[0])
    await reader.readline()
    writer.write(b'CONNECT {"verbose":true,"name":"test","lang":"none"}\r\n')
    await reader.readline()
    place.held.append(writer)


NATS = Service(
    recipe="nats",
    program="nats-server",
    package="nats-server",
    address="127.0.0.1:8222",
    command=nats_command,
    said=nats_said,
    change=nats_gets_a_client,
    changed=("nats.traffic", None),
)


def syncthing_command(place: Place) -> Sequence[str]:
    return [
        "syncthing", "serve", f"--home={place.folder}", "--no-browser", "--no-default-folder", "--no-restart",
        f"--gui-address=127.0.0.1:{place.port}", f"--gui-apikey={KEY}",
    ]  # fmt: skip


async def syncthing_said(place: Place) -> Said:
    headers = {"X-API-Key": KEY}
    connections = (await place.get("/rest/system/connections", headers=headers))["connections"]
    folders = await place.get("/rest/stats/folder", headers=headers)
    return {
        **{
            ("syncthing.device", name): {
                "connected": device["connected"],
                "paused": device["paused"],
                "address": device["address"],
                "version": device["clientVersion"],
            }
            for name, device in connections.items()
        },
        **{
            ("syncthing.folder", name): {"file": folder["lastFile"]["filename"], "at": folder["lastFile"]["at"]}
            for name, folder in folders.items()
        },
    }


async def syncthing_stays_at_home(place: Place) -> None:
    """It talks to nobody: no relays, no discovery, no listening for other devices but on loopback."""
    options = {
        "listenAddresses": [f"tcp://127.0.0.1:{place.ports[0]}"],
        "globalAnnounceEnabled": False,
        "localAnnounceEnabled": False,
        "relaysEnabled": False,
        "natEnabled": False,
        "urAccepted": -1,
        "crashReportingEnabled": False,
    }
    async with place.http.patch(
        f"{place.url}/rest/config/options", json=options, headers={"X-API-Key": KEY}
    ) as response:
        response.raise_for_status()


async def syncthing_gets_a_folder(place: Place) -> None:
    folder = {"id": "shelf", "path": str(place.folder / "shelf")}
    async with place.http.post(f"{place.url}/rest/config/folders", json=folder, headers={"X-API-Key": KEY}) as response:
        response.raise_for_status()


SYNCTHING = Service(
    recipe="syncthing",
    program="syncthing",
    package="syncthing",
    address="127.0.0.1:8384",
    secrets={"syncthing.key": KEY},
    environ={"STNOUPGRADE": "1", "STMONITORED": "1"},  # the second: no process beside it that starts it again
    command=syncthing_command,
    said=syncthing_said,
    prepare=syncthing_stays_at_home,
    change=syncthing_gets_a_folder,
    changed=("syncthing.folder", "shelf"),
)


def etcd_command(place: Place) -> Sequence[str]:
    peer = f"http://127.0.0.1:{place.ports[0]}"
    return [
        "etcd", "--data-dir", str(place.folder / "data"), "--listen-client-urls", place.url,
        "--advertise-client-urls", place.url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"default={peer}",
    ]  # fmt: skip


async def etcd_said(place: Place) -> Said:
    status = await place.post("/v3/maintenance/status", {})
    members = (await place.post("/v3/cluster/member/list", {}))["members"]
    return {
        ("etcd.health", None): await place.get("/health"),
        ("etcd.status", None): {
            "version": status["version"],
            "leader": status["leader"],
            "term": status["raftTerm"],
            "size_bytes": status["dbSize"],
        },
        **{
            ("etcd.member", member["ID"]): {"name": member["name"], "addresses": member["clientURLs"]}
            for member in members
        },
    }


async def etcd_grows(place: Place) -> None:
    await place.post("/v3/kv/put", {"key": "aw==", "value": base64.b64encode(bytes(500_000)).decode()})


ETCD = Service(
    recipe="etcd",
    program="etcd",
    package="etcd-server",
    address="127.0.0.1:2379",
    command=etcd_command,
    said=etcd_said,
    change=etcd_grows,
    changed=("etcd.status", None),
)
