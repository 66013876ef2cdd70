"""The header fields that every answer has, on the fast path and from the application."""

Fields = list[tuple[bytes, bytes]]


def with_common(fields: Fields, *, allowed_origin: str | None) -> Fields:
    """Add the fields that every answer has. `allowed_origin` is the origin of the page that may read it, if any."""
    if b"cache-control" not in [name.lower() for name, _ in fields]:
        fields.append((b"cache-control", b"no-store"))
    fields += [(b"x-content-type-options", b"nosniff"), (b"vary", b"Origin")]
    if allowed_origin is not None:
        fields += [
            (b"access-control-allow-origin", allowed_origin.encode("latin-1")),
            (b"access-control-expose-headers", b"Retry-After, X-Request-ID"),
        ]
    return fields
