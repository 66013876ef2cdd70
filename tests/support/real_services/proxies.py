"""Web servers and proxies: nginx, HAProxy, Caddy."""

import asyncio
import csv
from collections.abc import Sequence
from pathlib import Path

from real_services.running import Place, Said, Service


def nginx_pid(place: Place) -> Path:
    """The file that nginx writes once it listens."""
    return place.folder / "nginx.pid"


def nginx_command(place: Place) -> Sequence[str]:
    nginx_pid(place).unlink(missing_ok=True)
    paths = "".join(
        f"{kind}_temp_path {place.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = place.file(
        "nginx.conf",
        # One process, which needs no other user for its workers.
        f"daemon off; master_process off; pid {nginx_pid(place)}; error_log {place.folder}/error.log; events {{}}"
        f" http {{ {paths} access_log off; keepalive_timeout 900s; client_header_timeout 900s;"
        f" server {{ listen 127.0.0.1:{place.port}; location = /nginx_status {{ stub_status; }} }} }}",
    )
    return ["nginx", "-p", str(place.folder), "-e", str(place.folder / "error.log"), "-c", file]


async def nginx_said(place: Place) -> Said:
    """What the gateway must see. To ask nginx itself would be a connection more, which the gateway might see too."""
    if not nginx_pid(place).exists():
        raise FileNotFoundError("not started yet")
    waiting = len(place.held)
    connections = {"active": 1 + waiting, "reading": 0, "writing": 1, "waiting": waiting}
    return {("nginx.connections", None): connections}


async def nginx_gets_a_connection(place: Place) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", place.port)
    place.held.append(writer)


NGINX = Service(
    recipe="nginx",
    program="nginx",
    package="nginx",
    address="127.0.0.1:80",
    command=nginx_command,
    said=nginx_said,
    change=nginx_gets_a_connection,
    changed=("nginx.connections", None),
)


def haproxy_command(place: Place) -> Sequence[str]:
    file = place.file(
        "haproxy.cfg",
        f"""
global
    stats socket {place.folder}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
frontend statistics
    bind 127.0.0.1:{place.port}
    stats enable
    stats uri /stats
backend app
    server one 127.0.0.1:9
    server two 127.0.0.1:10
""",
    )
    return ["haproxy", "-f", file]


async def haproxy_said(place: Place) -> Said:
    lines = (await place.text("/stats;csv")).removeprefix("# ").splitlines()
    return {
        ("haproxy.server", f"{row['pxname']}/{row['svname']}"): {
            "status": row["status"],
            "sessions": row["scur"],
            "queue": row["qcur"],
            "check": row["check_status"],
        }
        for row in csv.DictReader(lines)
        if row["pxname"] == "app"  # its own page counts whoever looks at it
    }


async def haproxy_takes_a_server_out(place: Place) -> None:
    reader, writer = await asyncio.open_unix_connection(place.folder / "admin.sock")
    writer.write(b"disable server app/two\n")
    await reader.read()
    writer.close()


HAPROXY = Service(
    recipe="haproxy",
    program="haproxy",
    package="haproxy",
    address="127.0.0.1:8404",
    command=haproxy_command,
    said=haproxy_said,
    change=haproxy_takes_a_server_out,
    changed=("haproxy.server", "app/two"),
)


def caddy_command(place: Place) -> Sequence[str]:
    file = place.file(
        "Caddyfile",
        f"{{\n admin 127.0.0.1:{place.port}\n auto_https off\n}}\n"
        f"http://127.0.0.1:{place.ports[0]} {{\n bind 127.0.0.1\n reverse_proxy 127.0.0.1:9\n}}\n",
    )
    return ["caddy", "run", "--config", file, "--adapter", "caddyfile"]


async def caddy_said(place: Place) -> Said:
    upstreams = await place.get("/reverse_proxy/upstreams")
    return {
        ("caddy.upstream", upstream["address"]): {"requests": upstream["num_requests"], "fails": upstream["fails"]}
        for upstream in upstreams
    }


async def caddy_gets_an_upstream(place: Place) -> None:
    config = await place.get("/config/")
    (server,) = config["apps"]["http"]["servers"].values()
    route = {"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:10"}]}]}
    server["routes"].append(route)
    async with place.http.post(f"{place.url}/load", json=config) as response:
        response.raise_for_status()


CADDY = Service(
    recipe="caddy",
    program="caddy",
    package="caddy",
    address="localhost:2019",
    command=caddy_command,
    said=caddy_said,
    change=caddy_gets_an_upstream,
    changed=("caddy.upstream", "127.0.0.1:10"),
)
