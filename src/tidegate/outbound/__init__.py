"""Implementations of the ports: backends, authenticators, the store, the bus, the clock and metrics."""

from tidegate.extras import require

require("gateway")
