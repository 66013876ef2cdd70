"""A gateway as a program that logs everything it can: each logger of each library at the lowest level, unmasked.

Called with a configuration as JSON. Prints the address first; runs until its standard input ends, then drains.
"""

import asyncio
import json
import logging
import sys
import traceback
from typing import Any

import structlog

from tidegate.app import running
from tidegate.config import from_document


class Everything(logging.Handler):
    """Writes out all that a record holds, whatever the message shows of it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.name, record.levelname, record.getMessage(), vars(record), file=sys.stderr)
        if record.exc_info is not None:
            traceback.print_exception(*record.exc_info, file=sys.stderr)


def open_up() -> None:
    for logger in (logging.getLogger(name) for name in [None, *logging.root.manager.loggerDict]):
        logger.setLevel(1)
        logger.disabled = False
        logger.propagate = True


async def main(document: dict[str, Any]) -> None:
    async with running(from_document(document, environ={})) as app:
        open_up()
        print(app.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await app.drain()


if __name__ == "__main__":
    logging.basicConfig(handlers=[Everything()], level=1)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    open_up()
    asyncio.run(main(json.loads(sys.argv[1])), debug=True)
