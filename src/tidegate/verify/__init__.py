"""``tidegate verify``: makes a backend fail in every known way, and checks from outside how the gateway behaves.

It uses public interfaces only: the WebSocket, REST, and the call log of the fault proxy in front of the backend.
`verify` returns the report as a value, `run` is the command. If something needed for a test is missing, the scenario
counts as "could not test", never as passed.
"""

from tidegate.verify.command import run
from tidegate.verify.report import Check, Outcome, Report, ScenarioResult
from tidegate.verify.runner import ALL, verify

__all__ = ["ALL", "Check", "Outcome", "Report", "ScenarioResult", "run", "verify"]
