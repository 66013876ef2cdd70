"""``tidegate verify``: takes a gateway through every way a backend can fail, and judges it from outside.

Everything is seen over public interfaces: the WebSocket, REST, and the call log of the fault proxy in front of the
backend. `verify` gives the report as a value, `run` is the command. It must be able to fail: whatever should be there
to be tested and is not makes a scenario "could not test", never a pass.
"""

from tidegate.verify.command import run
from tidegate.verify.report import Check, Outcome, Report, ScenarioResult
from tidegate.verify.runner import ALL, verify

__all__ = ["ALL", "Check", "Outcome", "Report", "ScenarioResult", "run", "verify"]
