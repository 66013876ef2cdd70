"""What a check found: one line for people, what else there is to know, and how to fix it. Knows no check."""

import enum

import msgspec

from tidegate.printable import printable

INDENT = "      "


class Level(enum.StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check: what was checked, what was found, more about that, and how to fix it."""

    level: Level
    what: str
    found: str
    remedy: str = ""
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.level:<4}  {self.what}: {printable(self.found)}"]
        lines += [f"{INDENT}{printable(detail)}" for detail in self.details]
        lines += [f"{INDENT}→ {printable(self.remedy)}"] if self.remedy else []
        return "\n".join(lines)
