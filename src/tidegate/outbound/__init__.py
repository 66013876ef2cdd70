"""What the gateway reaches for: backends, token checks, the store, the bus, the clock and metrics."""
