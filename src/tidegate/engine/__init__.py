"""The reference engine: a separate program that reports the status of this machine and compresses files on request.

It serves JSON-RPC 2.0 over HTTP and knows nothing of the gateway. `server.serve` runs it in an event loop,
`server.main` as a process of its own. Nothing is imported here, so that its worker processes use little memory.
"""
