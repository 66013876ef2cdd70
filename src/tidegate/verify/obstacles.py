"""What ends a scenario before its end."""

from tidegate.errors import TidegateError


class CouldNotTest(TidegateError):
    """Something that should be there to be tested, or to test with, is not."""


class CheckFailed(TidegateError):
    """A check failed on which what comes next rests; it is in the result already."""
