"""JSON-RPC over one connection that lasts: a WebSocket, TCP or a Unix socket. Start reading at `backend.py`.

`dialer.py` makes connections and logs in, `link.py` carries bytes, `framing.py` and `websocket.py` cut messages out of
them, and `dialogue.py` matches answers to calls.
"""
