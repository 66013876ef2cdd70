"""Checks the files that a plan names: what is wrong with them before anything is made of the plan.

A start and a reload make the same checks. They read files. They write, bind and connect nothing.
"""

from collections.abc import Callable, Iterator

import msgspec

from tidegate.errors import ConfigError, Problem
from tidegate.inbound.server import LoadedCertificate
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.backends import opening as backends
from tidegate.plan import Plan, PlannedBackend
from tidegate.secret_place import read as read_secret


def startup_problems(plan: Plan) -> list[Problem]:
    """Return the problems with all files that are read at the start, whoever starts the gateway."""
    found = access_problems(plan)
    for backend in plan.backends:
        found += backend_problems(backend)
    return found


def access_problems(plan: Plan) -> list[Problem]:
    """Return the problems with the tokens, keys and certificates used for clients."""
    found = list(_refused(lambda: authentication.made(plan.authentication)))
    tls = plan.tls
    return found if tls is None else [*found, *_refused(lambda: LoadedCertificate.read(tls))]


def backend_problems(backend: PlannedBackend) -> list[Problem]:
    """Return the problems with the address, the certificates and the secrets of `backend`."""
    found = list(_refused(lambda: backends.examine(backend.endpoint)))
    for place in backend.endpoint.places.values():
        secret = read_secret(place)
        if isinstance(secret, Problem):
            found.append(msgspec.structs.replace(secret, path=f"backends.{backend.name}.{secret.path}"))
    return found


def _refused(make: Callable[[], object]) -> Iterator[Problem]:
    try:
        make()
    except ConfigError as error:
        yield from error.problems
