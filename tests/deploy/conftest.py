"""One outage of a real gateway's backend, which a real Prometheus has watched."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from outage import Outage, outage


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """The outage when it is over, while everything still runs."""
    folder: Path = tmp_path_factory.mktemp("outage")
    with outage(folder) as over:
        yield over
