"""What doctor advises about a backend of a plug-in names its options: it has no url."""

import pytest
from polling import source_plan

from tidegate.cli.asking import Reply
from tidegate.cli.remedies import remedy, subject_of
from tidegate.config import BackendConfig
from tidegate.core.polling.outcome import ClassifyPolicy, Fault, classify
from tidegate.errors import (
    ApplicationError,
    BackendError,
    DeadlineExceeded,
    Disconnected,
    InvalidResponse,
    LoginRefused,
    NoCredentials,
)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (Disconnected("refused"), "start it, or correct backends.b.options, which say where it is"),
        (DeadlineExceeded("late"), "see why it takes so long, or raise backends.b.timeout_s"),
        (LoginRefused("no"), "correct backends.b.options, or the secret that they name"),
        (ApplicationError(None, "no"), 'correct method of [sources."a.x"] or params'),
        (InvalidResponse("odd"), 'if so, tell the author of "echo"'),
        (NoCredentials("no file"), "write the file that backends.b names, readable by the gateway's user"),
    ],
)
def test_each_fault_has_a_remedy_without_a_url(error: BackendError, advice: str) -> None:
    fault = classify(error, elapsed_s=0.0, policy=ClassifyPolicy())
    assert isinstance(fault, Fault)
    subject = subject_of(BackendConfig(protocol="echo"), "b", source_plan("a.x", 1.0))
    found = remedy(subject, Reply(0.0, fault=fault, error=error))
    assert advice in found
    assert "url" not in found
