"""The recorded run: scenarios one after the other, each kept as soon as it is done, and README.md from what is kept."""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import targets
from bench.catalogue import SCENARIOS
from bench.plots import draw_all
from bench.programs import HERE
from bench.results import load, save, taken_now
from bench.scenario import Scenario, markdown
from bench.scenarios.recovery import RECOVERY, landing_table

README = HERE / "README.md"

LANDING = HERE.parent / "README.md"

BEGIN, END = "<!-- recorded -->", "<!-- /recorded -->"


def record(wanted: Sequence[str]) -> int:
    """Measure the scenarios of these names, all if there are none; how many could not be."""
    failed = 0
    for scenario in [SCENARIOS[name] for name in wanted or SCENARIOS]:
        began = time.monotonic()
        try:
            rows = scenario.run(scenario.choice)
        except Exception as error:  # noqa: BLE001 - what one scenario cannot do is no reason to lose the others
            failed += 1
            print(f"{scenario.name} failed: {error}", file=sys.stderr)
        else:
            save(taken_now(scenario.name, scenario.choice, rows))
            print(f"{scenario.name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
            write_readme()
    return failed


def write_readme() -> None:
    """Put all that is recorded into README.md, between its marks, and the short table into the project's."""
    pictures = [f"![{path.stem}](results/{path.name})" for path in draw_all()]
    parts = [markdown(targets.table()), *pictures, *map(_section, SCENARIOS.values())]
    _put("\n\n".join(filter(None, parts)), README)
    found = load(RECOVERY.name)
    if found is not None:
        _put(markdown(landing_table(found.rows)), LANDING)


def _put(recorded: str, page: Path) -> None:
    """Write `recorded` between the marks of `page`."""
    text = f"{BEGIN}\n\n{recorded}\n\n{END}"
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: text, page.read_text(), flags=re.DOTALL))


def _section(scenario: Scenario) -> str:
    result = load(scenario.name)
    if result is None:
        return ""
    choice = result.choice
    asked = f"{choice['blocks']} blocks of {choice['seconds']:g} s" if result.rows and "block" in result.rows[0] else ""
    about = ", ".join(filter(None, [f"Commit {result.commit}", result.taken, result.machine, asked]))
    title = f"### `{scenario.name}`: {scenario.about}"
    return f"{title}\n\n{about}.\n\n{markdown(scenario.table(result.rows))}"
