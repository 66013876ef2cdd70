"""Reads answers that are no JSON into JSON: Prometheus' text format, CSV, and text that a pattern takes apart.

Whatever a backend sends, the result is compact JSON or `InvalidResponse`; text in which a pattern finds nothing is
`MappingFailed`. Values keep the digits in which they were written. Knows nothing of how an answer was got.
"""

from tidegate.outbound.backends.formats.reading import Written, read

__all__ = ["Written", "read"]
