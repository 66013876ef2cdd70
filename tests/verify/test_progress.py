"""What one sees of a running verification."""

import io

import pytest
from rich.console import Console

from tidegate.verify.progress import ConsoleProgress
from tidegate.verify.report import Check, Outcome, ScenarioResult


def shown(*, terminal: bool) -> str:
    result = ScenarioResult(
        name="n",
        title="1. Title",
        promise="It holds.",
        outcome=Outcome.UNTESTED,
        reason="the engine has ended",
        began=0.0,
        elapsed_s=1.5,
        checks=[],
    )
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, force_terminal=terminal, width=40, highlight=False)) as progress:
        progress.preparing("a gateway")
        progress.began("1. Title", "It holds.")
        progress.checked(Check(claim="a [bold] claim", outcome=Outcome.FAILED, saw="x" * 80, at_s=0.5))
        progress.ended(result)
    return out.getvalue()


def test_plain_lines_are_whole() -> None:
    assert shown(terminal=False).splitlines() == [
        "Verifying a gateway",
        "1. Title",
        "  It holds.",
        "    0.50 s  FAILED  a [bold] claim: " + "x" * 80,
        "  COULD NOT TEST  1. Title, 1.5 s: the engine has ended",
    ]


@pytest.mark.parametrize("part", ["\x1b[1;31mFAILED", "a [bold] claim", "COULD NOT TEST"])
def test_a_terminal_shows_colours(part: str) -> None:
    assert part in shown(terminal=True)
