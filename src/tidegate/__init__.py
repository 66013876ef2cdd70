"""Tidegate: live streams from backends that can only be asked. docs/architecture.md says what is where.

`docs/api.md` says what is public.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
