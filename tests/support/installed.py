"""Python as it is in a venv that has only a part of what is installed here. Offline: nothing is installed anew."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class PartlyInstalled:
    """What ``pip install tidegate[extras]`` makes, in `folder`: links to this Python's packages, and to no others."""

    def __init__(self, folder: Path, *extras: str) -> None:
        self.distributions = closure(requirements(*extras))
        self._paths = [str(folder), str(ROOT / "src")]
        for name in self.distributions:
            for file in distribution(name).files or ():
                top = Path(file.parts[0])
                if ".." not in file.parts:
                    link = folder / top
                    if not link.exists():
                        link.symlink_to(Path(str(distribution(name).locate_file(top))))

    def run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `code` with `arguments`, until it ends."""
        begin = f"import sys; sys.path[:0] = {self._paths!r}\n"
        command = [sys.executable, "-I", "-S", "-c", begin + code, *arguments]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)

    def tidegate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line with `arguments`, until it ends."""
        return self.run("from tidegate.__main__ import main; sys.exit(main())", *arguments)


def requirements(*extras: str) -> list[Requirement]:
    """What the project's own file says that ``tidegate[extras]`` needs."""
    texts = [*PROJECT["dependencies"]]
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return list(map(Requirement, texts))


def closure(needed: Iterable[Requirement]) -> set[str]:
    """The names of the distributions that `needed` brings, with all that they need in turn."""
    found: set[str] = set()
    todo = list(needed)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name == "tidegate":
            for extra in requirement.extras:
                todo += map(Requirement, PROJECT["optional-dependencies"][extra])
        elif name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            todo += map(Requirement, distribution(name).requires or ())
    return found
