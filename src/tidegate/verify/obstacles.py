"""The exceptions that end a scenario early."""

from tidegate.errors import TidegateError


class CouldNotTest(TidegateError):
    """Something that is needed for the test is missing or does not work."""


class CheckFailed(TidegateError):
    """A check failed on which the rest of the scenario depends. The result already contains the check."""
