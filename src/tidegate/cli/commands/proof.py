"""``verify`` and ``faultproxy``: whether a gateway keeps its promises."""

import os
from pathlib import Path

from tidegate.cli.commands.parameters import check_url
from tidegate.cli.environment import TOKEN
from tidegate.extras import require


def verify(*, url: str | None = None, fault_url: str | None = None, report: Path | None = None) -> int:
    """Prove that a gateway stays truthful whatever its backend does: six scenarios, seen from outside.

    Without --url it starts gateway, engine and fault proxy itself, and takes about half a minute.

    Parameters
    ----------
    url
        A gateway that runs. A token for it is taken from TIDEGATE_TOKEN: a subscriber's; faster with an operator's.
    fault_url
        Control API of the fault proxy that stands before one of its backends.
    report
        File for what was found, as its ending says: .md, .json or .xml (JUnit).
    """
    require("gateway", "engine")
    from tidegate import verify

    if url is not None:
        check_url(url)
    return verify.run(url=url, fault_url=fault_url, report=report, token=os.environ.get(TOKEN))


def faultproxy(*, listen: str, upstream: str, control: str) -> int:
    """Run a fault-injecting HTTP proxy in front of a backend or a gateway, steered over HTTP.

    Parameters
    ----------
    listen
        HOST:PORT for its clients.
    upstream
        URL of the server behind it.
    control
        HOST:PORT for its control API.
    """
    require("gateway", "engine")
    from tidegate.verify import faultproxy

    return faultproxy.run(listen, upstream, control)
