"""The table of `docs/metrics.md`, made from the declarations in `tidegate.outbound.metrics.families`.

``.venv/bin/python tests/support/metrics_table.py`` writes it anew.
"""

from pathlib import Path

from tidegate.outbound.metrics.families import FAMILIES
from tidegate.outbound.metrics.family import Family, Label

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

BEGIN, END = "<!-- table: written by tests/support/metrics_table.py -->\n", "<!-- end of table -->\n"

FROM = {
    "source": "the sources",
    "event": "the event types",
    "backend": "the backends",
    "breaker": "the breakers",
    "build": "",
}
"""What a label's values are, where they are no enumeration."""

SEES = {
    "type": "if it covers the type",
    "breaker": "if it covers a source behind it",
    "backend": "if it covers all its sources",
}
"""Who sees a series, by the label that decides."""


def page(text: str) -> str:
    """Return `text`, a page with the two comments, with the table between them as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """The table, one row for each metric."""
    rows = [
        f"| `{each.name}` | {each.kind} | {_labels(each)} | {each.question} | {_seen(each)} |\n" for each in FAMILIES
    ]
    head = "| metric | kind | labels | question | a token with `types` sees it |\n| --- | --- | --- | --- | --- |\n"
    return "\n" + head + "".join(rows) + "\n"


def _labels(family: Family) -> str:
    return "; ".join(map(_label, family.labels)) or "–"


def _label(label: Label) -> str:
    values = ", ".join(f"`{value}`" for value in label.values) or FROM[label.names or "build"]
    return f"`{label.name}`: {values}" if values else f"`{label.name}`"


def _seen(family: Family) -> str:
    if family.deciding is not None:
        return SEES[family.labels[family.deciding].name]
    return "yes" if family.shown else "no"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
