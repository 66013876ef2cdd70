"""A backend that refuses our account: how often is it asked, whatever happens around it?

Rows: `server`, `what`, `calls` within the time, `pokes` that were answered, `busiest_minute`, `last_gap_s` between the
last two calls, and `heard_s` from new bytes of the secret until the first call with them (None without any).
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.faults import FaultyBackend, Outage, busiest
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Running, Server, servers_named
from bench.watching import gateway, requested, sources

SOURCES, INTERVAL_S = 3, 5.0

POKE_S = 1.0


@dataclass(frozen=True)
class Account:
    """What goes on while the account is refused. `renewed_at` is when the secret gets other bytes, as a share."""

    what: str
    poked: bool = False
    rewritten: bool = False
    renewed_at: float | None = None


ACCOUNTS = (
    Account("nothing else happens"),
    Account("poked every second", poked=True),
    Account("the secret file rewritten every second, with the same bytes", rewritten=True),
    Account("the secret file gets a new token after a while, which is accepted", renewed_at=0.7),
)


def run(choice: Choice) -> list[Row]:
    """All accounts at the same time, on backends of one gateway, for `choice.seconds`."""
    return [row for server in servers_named(choice.servers) for row in asyncio.run(_run(server, choice.seconds))]


async def _run(server: Server, seconds: float) -> list[Row]:
    backends = [FaultyBackend() for _ in ACCOUNTS]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        secrets = [Path(folder) / f"a{number}" for number in range(len(ACCOUNTS))]
        for secret in secrets:
            _write(secret, "expired")
        settings = "".join(
            sources(secret.name, backend.port, SOURCES, INTERVAL_S, more=f'bearer_token_file = "{secret}"\n')
            for secret, backend in zip(secrets, backends, strict=True)
        )
        async with AsyncExitStack() as stack:
            for backend in backends:
                await backend.start()
                stack.callback(backend.close)
                await backend.go_out(Outage.UNAUTHORIZED)
            host = await stack.enter_async_context(gateway(server, settings))
            parts = zip(ACCOUNTS, secrets, backends, strict=True)
            return list(await asyncio.gather(*(_row(host, *part, seconds) for part in parts)))


async def _row(host: Running, account: Account, secret: Path, backend: FaultyBackend, seconds: float) -> Row:
    ends_at = time.time() + seconds
    renewed_at = ends_at - seconds * (1 - account.renewed_at) if account.renewed_at else ends_at
    pokes = 0
    while (now := time.time()) < renewed_at:
        if account.poked:
            await requested(host, f"/api/v1/backends/{secret.name}/poll", method="POST")
            pokes += 1
        if account.rewritten:
            await asyncio.to_thread(_write, secret, "expired")
        await asyncio.sleep(max(0.0, now + POKE_S - time.time()))
    refused = list(backend.called_at)
    row = {
        "server": host.server.name,
        "what": account.what,
        "seconds": seconds,
        "refused_s": seconds * (account.renewed_at or 1.0),
        "calls": len(refused),
        "pokes": pokes,
        "busiest_minute": busiest(refused, 60.0),
        "last_gap_s": refused[-1] - refused[-2] if len(refused) > 1 else None,
        "heard_s": None,
        "all_heard_s": None,
    }
    if account.renewed_at:
        await asyncio.to_thread(_write, secret, "renewed")
        await backend.come_back()
        came_back_at = time.time()
        await asyncio.sleep(ends_at - came_back_at)
        after = backend.called_at[len(refused) :]
        first = {
            number: at
            for at, number in reversed(list(zip(backend.called_at, backend.numbers, strict=True)))
            if at >= came_back_at
        }
        row |= {"heard_s": after[0] - came_back_at if after else None}
        row |= {"all_heard_s": max(first.values()) - came_back_at if len(first) == SOURCES else None}
    print(f"{account.what}: done", file=sys.stderr)
    return row


def _write(secret: Path, token: str) -> None:
    """As tools that deploy secrets do: a new file in the place of the old one."""
    new = secret.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(f"{token}-0123456789abcdef\n")
    new.replace(secret)


def table(rows: Sequence[Row]) -> Table:
    heads = ["server", "while the account is refused", "for, s", "pokes", "calls", "in the busiest minute"]
    return [[*heads, "new token → first call, s", "→ every source, s"], *map(_line, rows)]


def _line(row: Row) -> list[str]:
    counts = [f"{row[name]:.0f}" for name in ("refused_s", "pokes", "calls", "busiest_minute")]
    heard = ["–" if row[name] is None else f"{row[name]:.1f}" for name in ("heard_s", "all_heard_s")]
    return [row["server"], row["what"], *counts, *heard]


REFUSED = Scenario(
    "refused",
    "calls of a backend that answers 401 to its 3 sources of 5 s",
    Choice(("tidegate",), seconds=600.0),
    run,
    table,
)
