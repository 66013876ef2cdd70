"""Real services that nobody here wrote, for the tests of the recipes. `SERVICES` is the table of them."""

from real_services.running import Place, Service
from real_services.table import SERVICES

__all__ = ["SERVICES", "Place", "Service"]
