"""Compression jobs: a durable queue, and worker processes ("agents") that make verified zstandard files.

`service` answers the methods; `queue` decides what happens to a job; `store` keeps jobs on disk; `agents` keeps the
processes alive; `agent` is the program they run, which carries out one `task` at a time.
"""
