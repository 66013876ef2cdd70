"""The commands ``watch`` and ``publish``, for clients of a gateway."""

import os
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tidegate.cli.commands.parameters import DEFAULT_URL, Url, check_url
from tidegate.cli.environment import TOKEN


def watch(
    url: Url = DEFAULT_URL,
    *,
    types: str | None = None,
    json: bool = False,
    count: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    duration: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
) -> int:
    """Follow events: a live table on a terminal, one JSON object per line elsewhere.

    Parameters
    ----------
    url
        URL of the gateway. Set TIDEGATE_TOKEN if it needs a token.
    types
        Event types or patterns, separated by commas, such as `system.*,rpc_error`; by default the gateway's choice.
    json
        Print lines of JSON even on a terminal.
    count
        Stop after this many events.
    duration
        Stop after this many seconds. The exit code is 1 if fewer than --count events came.
    """
    from tidegate.cli import signals
    from tidegate.cli.following import Following, follow

    following = Following(
        types=None if types is None else tuple(name.strip() for name in types.split(",") if name.strip()),
        json=json,
        count=count,
        duration_s=duration,
        token=os.environ.get(TOKEN),
    )
    check_url(url)
    return signals.run(lambda stopped: follow(stopped, following, url=url))


def publish(
    type: str,  # noqa: A002 - the name in the protocol
    json: str,
    *,
    key: str | None = None,
    url: Url = DEFAULT_URL,
    retain: bool = False,
) -> int:
    """Publish one event.

    Parameters
    ----------
    type
        Event type, such as `build.finished`.
    json
        The event's data, as JSON.
    key
        Key of the item that the event is about, if there are several of that type.
    url
        URL of the gateway. Set TIDEGATE_TOKEN if it needs a token.
    retain
        Keep the event for new subscribers.
    """
    from tidegate.cli.publishing import publish_event

    check_url(url)
    return publish_event(type, json, key=key, url=url, retain=retain, token=os.environ.get(TOKEN))
