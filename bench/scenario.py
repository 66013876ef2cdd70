"""What every scenario is: a name, what it measures, how it is run, and its table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.results import Choice, Row

Table = list[list[str]]
"""Rows of cells, the heads first."""


@dataclass(frozen=True)
class Scenario:
    """A kind of measurement. `choice` is that of the recorded run, and where the command line starts from."""

    name: str
    about: str
    choice: Choice
    run: Callable[[Choice], list[Row]]
    table: Callable[[Sequence[Row]], Table]


def markdown(table: Table) -> str:
    """`table` as it is shown and committed."""
    heads, *rows = table
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
