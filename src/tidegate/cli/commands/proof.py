"""The commands ``verify`` and ``faultproxy``: test whether a gateway keeps its promises."""

import os
from pathlib import Path

from tidegate.cli.commands.parameters import check_url
from tidegate.cli.environment import TOKEN
from tidegate.extras import require


def verify(*, url: str | None = None, fault_url: str | None = None, report: Path | None = None) -> int:
    """Prove from outside that a gateway stays truthful whatever its backend does, in six scenarios.

    Without --url it starts a gateway, an engine and a fault proxy itself. This takes about half a minute.

    Parameters
    ----------
    url
        URL of a running gateway. Set TIDEGATE_TOKEN if it needs a token: subscriber is enough, admin is faster.
    fault_url
        URL of the control API of the fault proxy in front of one of its backends.
    report
        File for the report. The ending decides the format: .md, .json or .xml (JUnit).
    """
    require("gateway", "engine")
    from tidegate import verify

    if url is not None:
        check_url(url)
    return verify.run(url=url, fault_url=fault_url, report=report, token=os.environ.get(TOKEN))


def faultproxy(*, listen: str, upstream: str, control: str) -> int:
    """Run a fault-injecting HTTP proxy in front of a backend or a gateway. It is controlled over HTTP.

    Parameters
    ----------
    listen
        HOST:PORT on which clients connect.
    upstream
        URL of the server behind the proxy.
    control
        HOST:PORT of the control API.
    """
    require("gateway", "engine")
    from tidegate.verify import faultproxy

    return faultproxy.run(listen, upstream, control)
