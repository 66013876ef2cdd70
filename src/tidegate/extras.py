"""Which parts of Tidegate need packages beyond those that ``pip install tidegate`` brings.

A client needs little. The command line, the gateway and the reference engine are extras; why is in
`docs/design/installation.md`. A room that needs one calls `require` before it imports anything else, so that whoever
imports it without is told the command that installs it. `pyproject.toml` has the same lists with versions, and a test
compares the two.
"""

import sys
from importlib.util import find_spec

from tidegate.errors import MissingExtra

PACKAGES = {
    "cli": ("cyclopts", "rich"),
    "gateway": (
        "aiohappyeyeballs",
        "httptools",
        "joserfc",
        "litestar",
        "multidict",
        "prometheus_client",
        "structlog",
        "uvloop",
        "yarl",
    ),
    "engine": ("aiohttp", "pjrpc", "psutil", "structlog", "uvloop", "zstandard"),
}
"""What each extra brings, as it is imported."""


def require(*extras: str) -> None:
    """Return if everything that `extras` bring is installed. Raises `MissingExtra`."""
    missing = sorted({package for extra in extras for package in PACKAGES[extra] if not _is_installed(package)})
    if missing:
        lacking = [extra for extra in extras if not set(missing).isdisjoint(PACKAGES[extra])]
        raise MissingExtra(
            f"not everything is installed that this needs ({', '.join(missing)}): "
            f"pip install 'tidegate[{','.join(lacking)}]'"
        )


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    return find_spec(package) is not None
