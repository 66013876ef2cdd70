"""The rules at work: asyncio, the core and the ports. No network library is known here."""

from tidegate.extras import require

require("gateway")
