"""The optional parts of Tidegate and the packages that each needs.

``pip install tidegate`` installs what a client needs. The command line, the gateway and the reference engine are extras
(`docs/design/installation.md` says why). A package that needs an extra calls `require` before its other imports. If the
extra is missing, the user then sees the command that installs it. `pyproject.toml` has the same lists with versions,
and a test compares the two.
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
        "regex",
        "structlog",
        "uvloop",
        "yarl",
    ),
    "engine": ("aiohttp", "pjrpc", "psutil", "structlog", "uvloop", "zstandard"),
}
"""The packages of each extra, under the names by which they are imported."""


def require(*extras: str) -> None:
    """Raise `MissingExtra` unless all packages of `extras` are installed."""
    missing = sorted({package for extra in extras for package in PACKAGES[extra] if not _is_installed(package)})
    if missing:
        lacking = [extra for extra in extras if not set(missing).isdisjoint(PACKAGES[extra])]
        raise MissingExtra(
            f"not everything is installed that this needs ({', '.join(missing)}): "
            f"pip install 'tidegate[{','.join(lacking)}]'"
        )


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None  # None blocks an import; tests use that
    return find_spec(package) is not None
