"""The results of a verification, as values: checks, results of scenarios, and the report.

This module must not know how checks are made or how a report is written.
"""

import enum

import msgspec


class Outcome(enum.StrEnum):
    """The outcome of a check or a scenario. UNTESTED means that something needed for the test was missing."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNTESTED = "could not test"


class Figure(msgspec.Struct, frozen=True):
    """What was measured, and the bound that it is held to; both in `unit`. `measured` is None if it never happened."""

    measured: float | None
    bound: float
    unit: str

    @property
    def shown(self) -> str:
        return "never" if self.measured is None else self._with_unit(self.measured)

    @property
    def shown_bound(self) -> str:
        return self._with_unit(self.bound)

    def __str__(self) -> str:
        return f"{self.shown}, bound {self.shown_bound}"

    def _with_unit(self, value: float) -> str:
        return f"{value:.2f} s" if self.unit == "s" else f"{value:g} {self.unit}"


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One claim that was checked. `at_s` is when it was decided, in seconds since the start of the scenario.

    `figure` is set if something was measured.
    """

    claim: str
    outcome: Outcome
    saw: str
    at_s: float
    figure: Figure | None = None


class ScenarioResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one scenario. `reason` says why it did not pass, "" if it did. `began` is Unix time."""

    name: str
    title: str
    promise: str
    outcome: Outcome
    reason: str
    began: float
    elapsed_s: float
    checks: list[Check]

    def count(self, outcome: Outcome) -> int:
        """Return the number of checks with this outcome."""
        return sum(check.outcome is outcome for check in self.checks)

    @property
    def figures(self) -> list[tuple[Check, Figure]]:
        """What was measured, with the checks that it belongs to."""
        return [(check, check.figure) for check in self.checks if check.figure is not None]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a verification. `target` names what was verified, `began` is Unix time.

    `owns_gateway` says that the verification started the gateway itself. Then a skipped check is a failure.
    """

    target: str
    owns_gateway: bool
    began: float
    elapsed_s: float
    scenarios: list[ScenarioResult]

    @property
    def passed(self) -> bool:
        """Whether every scenario passed. In a running deployment, skipped checks are allowed."""
        return bool(self.scenarios) and all(map(self._is_good, self.scenarios))

    def count(self, outcome: Outcome) -> int:
        """Return the number of scenarios with this outcome."""
        return sum(scenario.outcome is outcome for scenario in self.scenarios)

    def _is_good(self, scenario: ScenarioResult) -> bool:
        return scenario.outcome is Outcome.PASSED and not (self.owns_gateway and scenario.count(Outcome.SKIPPED))


def verdict(checks: list[Check], *, obstacle: str | None = None, death: str | None = None) -> tuple[Outcome, str]:
    """Return the outcome of a scenario with these checks, and the reason if it did not pass.

    `death` says which participant has died; then the checks mean nothing. `obstacle` says what ended the scenario
    early. A scenario without checks counts as untested.
    """
    failed = [check for check in checks if check.outcome is Outcome.FAILED]
    if death is not None:
        return Outcome.UNTESTED, death
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return Outcome.FAILED, f"{failed[0].claim}: {failed[0].saw}{more}"
    if obstacle is not None:
        return Outcome.UNTESTED, obstacle
    if not any(check.outcome is Outcome.PASSED for check in checks):
        return Outcome.UNTESTED, "nothing could be checked"
    return Outcome.PASSED, ""
