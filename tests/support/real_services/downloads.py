"""Programs that download: aria2, Transmission, qBittorrent. What they are given to download is never found."""

from collections.abc import Sequence

from real_services.running import HASHES, MAGNET, Place, Said, Service

SECRET = 'a secret with " and \\ in it'


def aria2_command(place: Place) -> Sequence[str]:
    return [
        "aria2c", "--no-conf", "--enable-rpc", f"--rpc-listen-port={place.port}", f"--rpc-secret={SECRET}",
        f"--dir={place.folder}", "--enable-dht=false", "--enable-dht6=false",
    ]  # fmt: skip


async def aria2(place: Place, method: str, *params: object) -> object:
    call = {"jsonrpc": "2.0", "id": 1, "method": f"aria2.{method}", "params": [f"token:{SECRET}", *params]}
    answer: dict[str, object] = await place.post("/jsonrpc", call)
    return answer["result"]


async def aria2_said(place: Place) -> Said:
    keys = ["gid", "status", "totalLength", "completedLength", "files"]
    waiting = await aria2(place, "tellWaiting", 0, 1000, keys)
    assert isinstance(waiting, list)
    return {
        ("aria2.speed", None): await aria2(place, "getGlobalStat"),
        **{
            ("aria2.waiting", download["gid"]): {
                "file": download["files"][0]["path"],
                "status": download["status"],
                "completed": download["completedLength"],
                "total": download["totalLength"],
            }
            for download in waiting
        },
    }


async def aria2_adds(place: Place, gid: str) -> None:
    await aria2(place, "addUri", ["http://127.0.0.1:9/none"], {"pause": "true", "gid": gid})


ARIA2 = Service(
    recipe="aria2",
    program="aria2c",
    package="aria2",
    address="127.0.0.1:6800",
    secrets={"aria2.secret": SECRET},
    command=aria2_command,
    said=aria2_said,
    prepare=lambda place: aria2_adds(place, "a" * 16),
    change=lambda place: aria2_adds(place, "b" * 16),
    changed=("aria2.waiting", "b" * 16),
)


def transmission_command(place: Place) -> Sequence[str]:
    return [
        "transmission-daemon", "--foreground", "--config-dir", str(place.folder), "--port", str(place.port),
        "--rpc-bind-address", "127.0.0.1", "--bind-address-ipv4", "127.0.0.1", "--bind-address-ipv6", "::1",
        "--peerport", str(place.ports[0]), "--no-auth", "--allowed", "127.0.0.1", "--download-dir", str(place.folder),
        "--no-dht", "--no-lpd", "--no-utp", "--no-portmap",
    ]  # fmt: skip


async def transmission(place: Place, method: str, **arguments: object) -> dict[str, object]:
    session = ""
    while True:
        async with place.http.post(
            f"{place.url}/transmission/rpc",
            json={"method": method, "arguments": arguments},
            headers={"X-Transmission-Session-Id": session},
        ) as response:
            if response.status != 409:
                answer: dict[str, dict[str, object]] = await response.json(content_type=None)
                return answer["arguments"]
            session = response.headers["X-Transmission-Session-Id"]


async def transmission_said(place: Place) -> Said:
    fields = ["hashString", "name", "status", "percentDone", "rateDownload", "rateUpload", "errorString"]
    torrents = (await transmission(place, "torrent-get", fields=fields))["torrents"]
    stats = await transmission(place, "session-stats")
    assert isinstance(torrents, list)
    return {
        ("transmission.speed", None): {
            "download": stats["downloadSpeed"],
            "upload": stats["uploadSpeed"],
            "active": stats["activeTorrentCount"],
            "paused": stats["pausedTorrentCount"],
        },
        **{
            ("transmission.torrent", torrent["hashString"]): {
                "name": torrent["name"],
                "status": torrent["status"],
                "progress": torrent["percentDone"],
                "download": torrent["rateDownload"],
                "upload": torrent["rateUpload"],
                "error": torrent["errorString"],
            }
            for torrent in torrents
        },
    }


async def transmission_adds(place: Place, torrent: str) -> None:
    await transmission(place, "torrent-add", filename=MAGNET.format(torrent), paused=True)


TRANSMISSION = Service(
    recipe="transmission",
    program="transmission-daemon",
    package="transmission-daemon",
    address="127.0.0.1:9091",
    command=transmission_command,
    said=transmission_said,
    prepare=lambda place: transmission_adds(place, HASHES[0]),
    change=lambda place: transmission_adds(place, HASHES[1]),
    changed=("transmission.torrent", HASHES[1]),
)


def qbittorrent_command(place: Place) -> Sequence[str]:
    folder = place.folder / "qBittorrent/config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qBittorrent.conf").write_text(
        "[LegalNotice]\nAccepted=true\n[BitTorrent]\n"
        "Session\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n"
        f"Session\\Port={place.ports[0]}\nSession\\Interface=lo\nSession\\InterfaceName=lo\n"
        "[Preferences]\nWebUI\\Address=127.0.0.1\n"
    )
    return ["qbittorrent-nox", f"--profile={place.folder}", f"--webui-port={place.port}"]


async def qbittorrent_logs_in(place: Place) -> None:
    form = {"username": "admin", "password": "adminadmin"}
    async with place.http.post(f"{place.url}/api/v2/auth/login", data=form) as response:
        response.raise_for_status()


async def qbittorrent_said(place: Place) -> Said:
    await qbittorrent_logs_in(place)
    speed = await place.get("/api/v2/transfer/info")
    torrents = await place.get("/api/v2/torrents/info")
    return {
        ("qbittorrent.speed", None): {
            "download": speed["dl_info_speed"],
            "upload": speed["up_info_speed"],
            "connection": speed["connection_status"],
        },
        **{
            ("qbittorrent.torrent", torrent["hash"]): {
                "name": torrent["name"],
                "state": torrent["state"],
                "progress": torrent["progress"],
                "download": torrent["dlspeed"],
                "upload": torrent["upspeed"],
            }
            for torrent in torrents
        },
    }


async def qbittorrent_adds(place: Place, torrent: str) -> None:
    await qbittorrent_logs_in(place)
    form = {"urls": MAGNET.format(torrent), "paused": "true"}
    async with place.http.post(f"{place.url}/api/v2/torrents/add", data=form) as response:
        response.raise_for_status()


QBITTORRENT = Service(
    recipe="qbittorrent",
    program="qbittorrent-nox",
    package="qbittorrent-nox",
    address="127.0.0.1:8080",
    secrets={"qbittorrent.password": "adminadmin"},
    command=qbittorrent_command,
    said=qbittorrent_said,
    prepare=lambda place: qbittorrent_adds(place, HASHES[0]),
    change=lambda place: qbittorrent_adds(place, HASHES[1]),
    changed=("qbittorrent.torrent", HASHES[1]),
)
