"""A gateway that turns backends which can only be asked into live streams. `docs/api.md` says what is public."""

__all__ = ["__version__"]

__version__ = "0.1.0"
