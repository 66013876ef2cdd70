"""The command: runs a verification, shows its progress, and writes the report."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path

from rich.console import Console

from tidegate.errors import ConfigError, Problem
from tidegate.printable import printable
from tidegate.signals import stopping
from tidegate.verify.deployment import GATEWAY
from tidegate.verify.progress import ConsoleProgress
from tidegate.verify.rendering import renderer_for, summary
from tidegate.verify.report import Report
from tidegate.verify.runner import ALL, verify

INTERRUPTED = "interrupted: nothing was proved\n"


def run(
    *,
    url: str | None = None,
    fault_url: str | None = None,
    report: Path | None = None,
    token: str | None = None,
    scenarios: Sequence[str] = ALL,
    gateway_command: Sequence[str] = GATEWAY,
) -> int:
    """Run a verification on a new event loop, show it on standard output, and write `report`. Return the exit code.

    The exit code is 0 if everything passed (in a deployment: everything that could be tested there), else 1, also after
    SIGINT or SIGTERM. The arguments are those of `runner.verify`. Raises `ConfigError` for a `report` with an unknown
    ending, for only one of the two URLs, or for an unknown scenario, and `OSError` if the report cannot be written.
    """
    _check(url, fault_url, scenarios)
    render = None if report is None else renderer_for(report)
    with ConsoleProgress(Console(highlight=False)) as progress:
        try:
            found = asyncio.run(
                _until_signalled(
                    verify(
                        url=url,
                        fault_url=fault_url,
                        token=token,
                        scenarios=scenarios,
                        gateway_command=gateway_command,
                        progress=progress,
                    )
                )
            )
        except asyncio.CancelledError:
            sys.stderr.write(INTERRUPTED)
            return 1
    if report is not None and render is not None:
        report.write_text(render(found), encoding="utf-8")
    sys.stdout.write(printable(summary(found)) + "\n")
    return 0 if found.passed else 1


async def _until_signalled(work: Coroutine[object, object, Report]) -> Report:
    """Run `work`. The first SIGINT or SIGTERM cancels it, which ends all programs; the second ends the process."""
    task = asyncio.current_task()
    assert task is not None
    with stopping(lambda _: task.cancel()):
        return await work


def _check(url: str | None, fault_url: str | None, scenarios: Sequence[str]) -> None:
    problems = []
    if (url is None) != (fault_url is None):
        missing = "--url" if url is None else "--fault-url"
        problems.append(Problem(missing, "to be given beside the other of --url and --fault-url", "nothing"))
    problems += [
        Problem("scenarios", f"names of {', '.join(ALL)}", repr(name)) for name in scenarios if name not in ALL
    ]
    if problems:
        raise ConfigError(problems)
