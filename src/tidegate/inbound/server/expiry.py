"""When a certificate expires: reads just that of its ASN.1 (X.690, RFC 5280 section 4.1), which `ssl` does not tell."""

import ssl
from datetime import UTC, datetime
from typing import NamedTuple

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

UTC_TIME, GENERALIZED_TIME, VERSION = 0x17, 0x18, 0xA0


class _Element(NamedTuple):
    """One element of DER: its tag, its content, and what follows it."""

    tag: int
    content: bytes
    rest: bytes


def expires_at(chain: str) -> float | None:
    """Return until when the first certificate of `chain` (PEM) is valid, in Unix seconds; None if that is not found."""
    start, end = chain.find(BEGIN), chain.find(END)
    try:
        certificate = _element(ssl.PEM_cert_to_DER_cert(chain[start : end + len(END)]))
        fields = _element(certificate.content).content
        if _element(fields).tag == VERSION:
            fields = _element(fields).rest
        for _ in ("serial number", "signature", "issuer"):
            fields = _element(fields).rest
        not_before = _element(_element(fields).content)
        return _time(_element(not_before.rest))
    except (ValueError, IndexError):
        return None


def _element(data: bytes) -> _Element:
    tag, length, at = data[0], data[1], 2
    if length & 0x80:  # the length of the length
        at += length & 0x7F
        length = int.from_bytes(data[2:at], "big")
    return _Element(tag, data[at : at + length], data[at + length :])


def _time(element: _Element) -> float:
    text = element.content.decode("ascii")
    if element.tag == UTC_TIME:  # its years have two digits: 50 to 99 belong to the last century
        text = f"{'19' if text >= '50' else '20'}{text}"
    elif element.tag != GENERALIZED_TIME:
        raise ValueError(f"expected a time, got an element with the tag {element.tag}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
