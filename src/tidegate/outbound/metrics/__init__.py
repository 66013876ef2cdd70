"""The runtime's counters, gauges and histograms, as Prometheus reads them.

`families` declares each metric, `prometheus` counts and reads, `rendering` writes the text. The counts are plain
numbers of our own, since every event is counted. Nothing that others say becomes a label value, except some event
types.
"""

from tidegate.outbound.metrics.families import FAMILIES
from tidegate.outbound.metrics.known import INVENTED_TYPES, ConfiguredNames
from tidegate.outbound.metrics.prometheus import PrometheusMetrics

__all__ = ["FAMILIES", "INVENTED_TYPES", "ConfiguredNames", "PrometheusMetrics"]
