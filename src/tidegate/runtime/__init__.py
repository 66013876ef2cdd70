"""Runs the rules of `tidegate.core` on asyncio, over the ports. Knows no network library."""

from tidegate.extras import require

require("gateway")
