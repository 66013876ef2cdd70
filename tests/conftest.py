"""How long a test may take: an ordinary one what pyproject.toml says, one with real processes longer.

The Hypothesis profile `mutants` is for mutmut: it does not look for the smallest example that kills a mutant.
"""

import pytest
from hypothesis import Phase, settings

REAL_TIMEOUT_S = 900

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("timeout") == 0:  # a mark would win over the command line of `make soak`
        return
    for item in items:
        if item.get_closest_marker("real") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(REAL_TIMEOUT_S))
