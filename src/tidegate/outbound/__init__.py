"""What the gateway reaches for: backends, token checks, the store, the bus, the clock and metrics."""

from tidegate.extras import require

require("gateway")
