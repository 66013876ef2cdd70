"""What a client asks for and what it may have: hosts and origins, queries, subprotocols, and grants."""
