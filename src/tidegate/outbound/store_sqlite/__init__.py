"""The store in SQLite: `SqliteStore` writes and reads, `tables` knows the file, `report` tells how the writes go."""

from tidegate.outbound.store_sqlite.store import SqliteStore, obstacle
from tidegate.outbound.store_sqlite.tables import FILE, LOCK

__all__ = ["FILE", "LOCK", "SqliteStore", "obstacle"]
