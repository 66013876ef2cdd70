"""The reference engine: a separate program that says how this machine is doing and compresses files on request.

It speaks JSON-RPC 2.0 over HTTP and knows nothing of the gateway. `server.serve` runs it inside an event loop,
`server.main` as a process of its own. Nothing is imported here, so that its worker processes stay small.
"""
