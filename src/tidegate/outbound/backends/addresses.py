"""Addresses of one backend: what a path or an address in the configuration means, given the backend's `url`."""

from yarl import URL


def below(url: URL, path: str) -> URL:
    """Return the URL of `path`, with an optional query, below `url`, whose own query comes first."""
    path, _, query = path.partition("?")
    whole = "/".join(filter(None, (str(url.with_query(None)).rstrip("/"), path.lstrip("/"))))
    queries = "&".join(filter(None, (url.raw_query_string, query)))
    return URL(f"{whole}?{queries}" if queries else whole)


def joined(base: URL, given: URL) -> URL:
    """Return the address of the login: absolute, from the root of the backend's host, or below the backend's `url`."""
    if given.is_absolute():
        return given.with_user(None).with_fragment(None)
    if given.raw_path.startswith("/"):
        return base.with_path("/", keep_query=False).join(given)
    return below(base, str(given)) if str(given) else base
