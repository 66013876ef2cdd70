"""What the composition root decides: what a configuration comes to for the parts."""

import pytest

from tidegate import app
from tidegate.config import from_document


@pytest.mark.parametrize(
    ("sources", "idle_s"),
    [
        ({"s": {}}, 10.0),
        ({"s": {"interval_s": 16.0}}, 21.0),
        ({"s": {"interval_s": 1.0, "idle_interval_s": 60.0}, "t": {"interval_s": 30.0}}, 65.0),
        ({"s": {"interval_s": 1.0}, "other": {"interval_s": 90.0, "backend": "c"}}, 6.0),
        ({"s": {"interval_s": 3600.0}}, 120.0),
        ({}, 5.0),
    ],
)
def test_a_connection_to_a_backend_is_kept_until_its_rarest_source_is_due_again(
    sources: dict[str, dict[str, object]], idle_s: float
) -> None:
    tables = {name: {"backend": "b", "method": "m"} | source for name, source in sources.items()}
    config = from_document(
        {"backends": {"b": {"url": "http://h"}, "c": {"url": "http://h"}}, "sources": tables}, environ={}
    )
    assert app._idle_s(config, "b") == idle_s
