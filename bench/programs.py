"""The bench's own C programs, compiled when their source is newer, and where the peers are installed."""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / ".build"
"""Everything that the bench makes or installs; never committed."""

FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-format-truncation", "-D_GNU_SOURCE"]

NODE_MODULES = HERE / "node_modules"
PEER_VENV = BUILD / "venv"
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


def compiled(name: str) -> str:
    """The path of the program ``native/NAME.c``, compiled if need be."""
    source, program = HERE / "native" / f"{name}.c", BUILD / name
    newest = max(path.stat().st_mtime for path in (source, *source.parent.glob("*.h")))
    if not program.exists() or program.stat().st_mtime < newest:
        BUILD.mkdir(exist_ok=True)
        subprocess.run(["cc", *FLAGS, "-o", str(program), str(source)], check=True)
    return str(program)


def install_peers() -> None:
    """Install what is not there yet. What cannot be had is named; the bench leaves it out."""
    BUILD.mkdir(exist_ok=True)
    attempts = [
        (NODE_MODULES / "uwebsockets", [["npm", "ci", "--silent", "--no-fund", "--no-audit", "--ignore-scripts"]]),
        (
            NCHAN_MODULE,
            [
                ["apt-get", "update", "-qq"],
                ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "nginx", "libnginx-mod-nchan"],
            ],
        ),
        (
            PEER_VENV,
            [
                [sys.executable, "-m", "venv", str(PEER_VENV)],
                [str(PEER_VENV / "bin/pip"), "install", "--quiet", "-r", str(HERE / "peers" / "requirements.txt")],
            ],
        ),
    ]
    for there, commands in attempts:
        if there.exists():
            continue
        try:
            for command in commands:
                subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"could not install {there.name}: {error}", file=sys.stderr)
            if there == PEER_VENV:
                shutil.rmtree(PEER_VENV, ignore_errors=True)
