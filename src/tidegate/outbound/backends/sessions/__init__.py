"""Logins over HTTP: when one is needed (`session.py`), how it is made (`logging_in.py`), what it gave (`grant.py`)."""
