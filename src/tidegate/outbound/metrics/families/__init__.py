"""Every metric that ``/metrics`` may show, in the order in which it shows them."""

from tidegate.outbound.metrics.families.polling import POLLING
from tidegate.outbound.metrics.families.running import RUNNING
from tidegate.outbound.metrics.families.traffic import TRAFFIC
from tidegate.outbound.metrics.family import Family

FAMILIES: tuple[Family, ...] = (*RUNNING, *POLLING, *TRAFFIC)
