"""Shows the progress of a verification: colours and a spinner on a terminal, plain lines elsewhere."""

from typing import Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from tidegate.printable import printable
from tidegate.verify.report import Check, Outcome, ScenarioResult

_SHOWN = {
    Outcome.PASSED: ("ok", "green"),
    Outcome.FAILED: ("FAILED", "bold red"),
    Outcome.SKIPPED: ("skipped", "yellow"),
    Outcome.UNTESTED: ("COULD NOT TEST", "bold magenta"),
}


class ConsoleProgress:
    """Implements `trial.Progress` on a console. Use it as a context manager, which stops the spinner at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status("", console=console)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def preparing(self, what: str) -> None:
        self._show("starting", Text(printable(f"Verifying {what}")))

    def began(self, title: str, promise: str) -> None:
        self._show(title, Text(title, "bold"))
        self._line(Text(f"  {promise}", "dim"))

    def checked(self, check: Check) -> None:
        word, style = _SHOWN[check.outcome]
        self._line(
            Text.assemble(
                f"  {check.at_s:6.2f} s  ",
                (word, style),
                printable(f"  {check.claim}"),
                (printable(f": {check.saw}"), "dim"),
            )
        )

    def ended(self, result: ScenarioResult) -> None:
        word, style = _SHOWN[result.outcome]
        reason = printable(f": {result.reason}") if result.reason else ""
        self._line(Text.assemble("  ", (word, style), f"  {result.title}, {result.elapsed_s:.1f} s{reason}"))

    def _show(self, doing: str, text: Text) -> None:
        self._status.update(doing)
        self._line(text)

    def _line(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
