"""Backends that plug-ins make: `backend.py` keeps their mistakes apart, `driven.py` sees what holds up the gateway."""
