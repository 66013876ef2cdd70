"""What a client asks for, and what it may have: its query, its token, the patterns that it may see."""
