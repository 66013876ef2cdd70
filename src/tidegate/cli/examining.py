"""The ``doctor`` command: checks everything that a gateway needs, and says how to fix what is wrong.

It changes nothing. It binds the address for a moment, tries the lock of the state directory, and polls each source
once.
"""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from tidegate.checks import access_problems
from tidegate.cli import examining_reloads, preflight
from tidegate.cli.environment import TOKEN
from tidegate.cli.examining_backends import examined_backends
from tidegate.cli.findings import Finding, Level
from tidegate.cli.run_record import is_locked
from tidegate.cli.serving import configured
from tidegate.cli.signals import until
from tidegate.client import Readiness, readiness
from tidegate.config import Config
from tidegate.core.access.authority import is_unspecified
from tidegate.errors import AccessRefused, ConfigError, Problem, Unreachable
from tidegate.inbound.address import Address, bound
from tidegate.inbound.multicast import IS_COMPILED
from tidegate.outbound.store_sqlite import obstacle
from tidegate.plan import Plan, plan

SPARE_FILES = 100
"""Open files that the gateway needs besides clients: listener, store, logs, and connections to backends."""

LOW_DISK_BYTES = 100_000_000
"""Free space below which to warn. The store itself is far smaller; a nearly full disk is the problem."""


async def examine(stopped: asyncio.Event, *, config_file: Path | None, url: str | None) -> int:
    """Print findings as they come. Return the exit code: 1 if a check failed or `stopped` was set, else 0."""
    return 0 if await until(stopped, _shown(config_file, url)) else 1


async def _shown(config_file: Path | None, url: str | None) -> bool:
    good = True
    async for finding in examined(config_file, url):
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()
        good &= finding.level is not Level.FAIL
    return good


async def examined(config_file: Path | None, url: str | None) -> AsyncIterator[Finding]:
    """Check the configuration and the gateway at `url`, by default at the address where the configuration listens.

    Without `config_file`, check what ``serve`` runs without one.
    """
    what = "configuration"
    try:
        config, engine_port = configured(config_file, {}, None)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(Level.FAIL, what, str(problem), _writing(problem, config_file))
        return
    shown = config_file or "none given, this machine is shown by the reference engine"
    yield Finding(Level.OK, what, f"{shown}, {len(config.backends)} backend(s), {len(config.sources)} source(s)")
    wanted = plan(config)
    for finding in _files(wanted, config, config_file):
        yield finding
    for caution in preflight.prices(config, wanted):
        yield _warning(what, caution)
    if is_unspecified(wanted.address.host):
        yield _names(wanted.access.hosts)
    yield _fan_out(compiled=IS_COMPILED)
    yield _descriptors(wanted.gateway.max_clients, limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    gateway = await _gateway(wanted, url)
    yield gateway
    yield _state(wanted.store, a_gateway_runs=gateway.what == "gateway" and gateway.level is not Level.FAIL)
    if config_file is not None:
        for finding in await _in_force(wanted, config_file, ask=url is None and gateway.what == "gateway"):
            yield finding
    if engine_port is not None:
        yield Finding(Level.OK, "backend engine", "started beside the gateway")
        return
    async for finding in examined_backends(config, wanted.backends):
        yield finding


def _writing(problem: Problem, config_file: Path | None) -> str:
    """Say how to get a configuration file, if there is none. What is wrong in one, the problem itself says."""
    if config_file is None or problem.path != str(config_file) or config_file.exists():
        return ""
    return (
        "`tidegate config init` writes one with every key explained,"
        " `tidegate config init --for NAME` a short one for a service (`tidegate config recipes` lists them)"
    )


def _files(wanted: Plan, config: Config, config_file: Path | None) -> Iterator[Finding]:
    """Check the content and the permissions of the files. Loading the configuration has checked that they exist."""
    what = "tokens and certificates"
    problems = access_problems(wanted)
    for problem in problems:
        yield Finding(Level.FAIL, what, str(problem), "give it such a file")
    for caution in [] if problems else preflight.exposures(config, config_file):
        yield _warning(what, caution)
    if not problems:
        yield Finding(Level.OK, what, f'auth.mode = "{wanted.api.auth}", TLS {"off" if wanted.tls is None else "on"}')


def _warning(what: str, caution: preflight.Caution) -> Finding:
    return Finding(Level.WARN, what, f"{caution.setting}: {caution.found}", caution.remedy)


def _names(allowed_hosts: Sequence[str]) -> Finding:
    """Show the host names that are accepted by a gateway that listens on every address. Others are answered 421."""
    found = f"localhost, each address of this machine, and {', '.join(allowed_hosts) or 'no name beside'}"
    return Finding(Level.OK, "reached as", found, "server.allowed_hosts names further ones: others are answered 421")


def _fan_out(*, compiled: bool) -> Finding:
    if compiled:
        return Finding(Level.OK, "fan-out", "in C")
    remedy = "install a C compiler and Python's headers, then reinstall tidegate"
    return Finding(Level.WARN, "fan-out", "in Python, which is slower: the installation found no C compiler", remedy)


def _descriptors(max_clients: int, *, limit: int) -> Finding:
    wanted = max_clients + SPARE_FILES
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return Finding(Level.OK, "open files", f"{'no limit' if limit == resource.RLIM_INFINITY else limit}")
    found = f"at most {limit}, too few for server.max_clients = {max_clients} and the gateway's own files"
    remedy = f"`ulimit -n {wanted}` before the start (systemd: LimitNOFILE={wanted}), or lower server.max_clients"
    return Finding(Level.WARN, "open files", found, remedy)


def _configured_url(wanted: Plan) -> str:
    host, port = wanted.address.host, wanted.address.port
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{'http' if wanted.tls is None else 'https'}://{host}:{port}{wanted.api.root_path}"


async def _in_force(wanted: Plan, config_file: Path, *, ask: bool) -> list[Finding]:
    """Compare the gateway that runs with the file, if it says what it has: in its state directory, or when we `ask`."""
    found = None
    if wanted.store is not None and is_locked(wanted.store):
        found = examining_reloads.recorded(wanted.store, config_file)
    if found is None and ask:
        found = await examining_reloads.asked(_configured_url(wanted), os.environ.get(TOKEN))
    return [] if found is None else list(examining_reloads.compared(found, config_file))


async def _gateway(wanted: Plan, url: str | None) -> Finding:
    """Check a gateway. It must run at `url` if that is given; at the configured address it may or may not run."""
    address = url or _configured_url(wanted)
    try:
        # The certificate names the hosts that clients use, not the address on which the gateway listens.
        found = await readiness(address, check_certificate=url is not None)
    except AccessRefused as error:
        return Finding(
            Level.FAIL, "gateway", f"{address}: {error} (HTTP {error.status})", "change the setting it names"
        )
    except Unreachable as error:
        if url:
            return Finding(Level.FAIL, "gateway", str(error), "`tidegate serve` starts one")
        return _free(wanted.address, error)
    return _ready(address, found)


def _ready(address: str, found: Readiness) -> Finding:
    if found.status == "ready":
        return Finding(Level.OK, "gateway", f"{address} is ready")
    if found.status == "degraded":
        remedy = f"{address}/api/v1/status says which and why"
        return Finding(Level.WARN, "gateway", f"{address} runs, {found.stale} source(s) stale", remedy)
    return Finding(Level.WARN, "gateway", f"{address} is {found.status}", "ask again in a few seconds")


def _free(address: Address, unreachable: Unreachable) -> Finding:
    """Check whether the address is free. No gateway answers there."""
    try:
        bound(address.host, address.port).close()
    except OSError as error:
        found = f"{address.host}, port {address.port}: {error.strerror or error}; {unreachable}"
        return Finding(Level.FAIL, "address", found, "choose another server.port or server.host, or end what has it")
    return Finding(Level.OK, "address", f"{address.host}, port {address.port} is free, no gateway runs there")


def _state(directory: Path | None, *, a_gateway_runs: bool) -> Finding:
    what = "state directory"
    if directory is None:
        return Finding(Level.OK, what, 'server.state_dir = "": no value outlives a restart')
    if found := obstacle(directory):
        remedy = "give it to the gateway's user, or choose another server.state_dir"
        return Finding(Level.FAIL, what, found, remedy)
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if is_locked(directory):
        if a_gateway_runs:
            return Finding(Level.OK, what, f"{directory}, in use by a gateway")
        remedy = "end the gateway that uses it, or choose another server.state_dir"
        return Finding(Level.FAIL, what, f"{directory} is in use, by no gateway at this address", remedy)
    disk = os.statvfs(nearest)
    if (free := disk.f_bavail * disk.f_frsize) < LOW_DISK_BYTES:
        return Finding(Level.WARN, what, f"{directory}, {free // 1_000_000} MB free", "make room on that volume")
    return Finding(Level.OK, what, f"{directory} can be written")
