"""Compression jobs: a durable queue, and worker processes ("agents") that make verified zstandard files.

`service` answers the methods, `queue` decides what happens to a job, `store` keeps jobs on disk, and `agents`
supervises the processes. `agent` is the program that they run; it executes one `task` at a time.
"""
