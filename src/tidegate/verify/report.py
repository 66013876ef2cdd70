"""What a verification found, as values: checks, the scenarios that made them, and the report of them all.

Knows nothing of how a check is made or how a report is written.
"""

import enum

import msgspec


class Outcome(enum.StrEnum):
    """What became of a check or a scenario. UNTESTED is never a pass: what should have been judged was not there."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNTESTED = "could not test"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One claim that was looked into. `at_s` is when that was decided, in seconds since the scenario began."""

    claim: str
    outcome: Outcome
    saw: str
    at_s: float


class ScenarioResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one scenario came to; `reason` says why wherever it did not pass. `began` is Unix time."""

    name: str
    title: str
    promise: str
    outcome: Outcome
    reason: str
    began: float
    elapsed_s: float
    checks: list[Check]

    def count(self, outcome: Outcome) -> int:
        """How many checks came out like that."""
        return sum(check.outcome is outcome for check in self.checks)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole verification. `target` says of what, `began` is Unix time.

    `owns_gateway`: we started the gateway, so that nothing may be skipped.
    """

    target: str
    owns_gateway: bool
    began: float
    elapsed_s: float
    scenarios: list[ScenarioResult]

    @property
    def passed(self) -> bool:
        """Whether every scenario passed; of a deployment, whatever of it could be tested there."""
        return bool(self.scenarios) and all(map(self._is_good, self.scenarios))

    def count(self, outcome: Outcome) -> int:
        """How many scenarios came out like that."""
        return sum(scenario.outcome is outcome for scenario in self.scenarios)

    def _is_good(self, scenario: ScenarioResult) -> bool:
        return scenario.outcome is Outcome.PASSED and not (self.owns_gateway and scenario.count(Outcome.SKIPPED))


def verdict(checks: list[Check], *, obstacle: str | None = None, death: str | None = None) -> tuple[Outcome, str]:
    """What a scenario with these checks came to, and why unless it passed.

    `death` says which participant is gone that should be up: then what was seen says nothing. `obstacle` is what kept
    the scenario from its end. One in which nothing was checked was not tested.
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
