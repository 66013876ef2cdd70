"""Tidegate: live streams from backends that can only be asked. docs/architecture.md says what is where."""

__version__ = "0.1.0"
