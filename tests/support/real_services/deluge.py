"""Deluge: a daemon, and the web server that answers for it."""

import json
from collections.abc import Sequence

from real_services.running import HASHES, MAGNET, Place, Said, Service

PASSWORD = "deluge"
FIELDS = ["name", "state", "progress", "download_payload_rate", "upload_payload_rate"]

# The web server connects to its daemon once, when it starts.
START = """
deluged --do-not-daemonize --config "$1" &
until (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; do sleep 0.1; done
exec deluge-web --do-not-daemonize --config "$1"
"""


def command(place: Place) -> Sequence[str]:
    daemon, peers = place.ports
    if not (place.folder / "core.conf").exists():
        quiet = dict.fromkeys(("dht", "lsd", "upnp", "natpmp", "utpex", "new_release_check", "random_port"), False)
        peering = {"listen_ports": [peers, peers], "listen_interface": "127.0.0.1", "outgoing_interface": "lo"}
        configure(place, "core.conf", 1, {"daemon_port": daemon, **quiet, **peering})
        configure(place, "web.conf", 2, {"port": place.port, "interface": "127.0.0.1", "default_daemon": "daemon"})
        hosts = [["daemon", "127.0.0.1", daemon, "localclient", PASSWORD]]
        configure(place, "hostlist.conf", 3, {"hosts": hosts})
        place.file("auth", f"localclient:{PASSWORD}:10\n")
    return ["bash", "-c", START, "bash", str(place.folder), str(daemon)]


def configure(place: Place, name: str, version: int, values: object) -> None:
    """Write one of its files: two objects, one after the other."""
    place.file(name, json.dumps({"file": version, "format": 1}) + json.dumps(values))


async def call(place: Place, method: str, *params: object) -> object:
    answer = await place.post("/json", {"id": 1, "method": method, "params": params})
    if answer["error"] is not None:
        raise ValueError(answer["error"])
    return answer["result"]


async def said(place: Place) -> Said:
    await call(place, "auth.login", PASSWORD)
    seen = await call(place, "web.update_ui", FIELDS, {})
    assert isinstance(seen, dict)
    if not seen["connected"]:
        raise ValueError("not connected to its daemon")
    return {
        ("deluge.connected", None): True,
        **{
            ("deluge.torrent", key): {
                "name": torrent["name"],
                "state": torrent["state"],
                "progress": torrent["progress"],
                "download": torrent["download_payload_rate"],
                "upload": torrent["upload_payload_rate"],
            }
            for key, torrent in seen["torrents"].items()
        },
    }


async def adds(place: Place, torrent: str) -> None:
    await call(place, "auth.login", PASSWORD)
    await call(place, "core.add_torrent_magnet", MAGNET.format(torrent), {"add_paused": True})


DELUGE = Service(
    recipe="deluge",
    program="deluge-web",
    package="deluge-web",
    address="127.0.0.1:8112",
    secrets={"deluge.password": PASSWORD},
    command=command,
    said=said,
    prepare=lambda place: adds(place, HASHES[0]),
    change=lambda place: adds(place, HASHES[1]),
    changed=("deluge.torrent", HASHES[1]),
)
