"""What a backend makes answers with that it read from elsewhere: `compact`. A plug-in may import it."""

from tidegate.core.payload import compact

__all__ = ["compact"]
