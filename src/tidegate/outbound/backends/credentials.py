"""What one exchange with a backend is authenticated with: the secrets, and the headers made of them.

Fills the places of secrets in texts, and takes secrets out of texts that a backend sent back. Reads no file, and makes
no call.
"""

import hmac
import html
import itertools
import json
import operator
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self, TypeVar
from urllib.parse import quote, quote_plus, urlencode

import msgspec
from multidict import CIMultiDict
from yarl import URL

from tidegate.core.masking import is_harmless_header
from tidegate.core.templates import filled, filled_bytes, without_scheme
from tidegate.secret import MASK, Secret

TELLING_CHARACTERS = 8
"""A piece of a secret of so many characters, from its beginning, is masked too: a message may have been cut there."""

_SHORT = 4
"""A secret of fewer characters is masked only where it stands alone."""

_IN_PATHS = "!$&'()*+,;=:@"
"""What stands for itself in a segment of a path (RFC 3986 section 3.3)."""

_PROCESS_KEY = secrets.token_bytes(32)
_T = TypeVar("_T")


class Credentials:
    """The secrets of one exchange, by name, and the `headers` to be sent with each of its requests.

    `key` is equal for equal secrets, within one process. It is empty without any. It does not tell what they are.
    `given` are more texts that a message must not repeat, such as literal passwords of the configuration.
    """

    def __init__(
        self,
        named: Mapping[str, Secret] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        given: Iterable[Secret] = (),
    ) -> None:
        self._named = dict(named or {})
        self._given = tuple(given)
        self.headers: Mapping[str, str] = CIMultiDict(headers or {})
        self.key = _digest(self._named)
        self._heir: Credentials | None = None

    def __repr__(self) -> str:
        return f"Credentials({', '.join(sorted(self._named))})"

    def granted(self, named: Mapping[str, Secret], *, headers: Mapping[str, str], given: Iterable[Secret] = ()) -> Self:
        """Return these with what a login granted besides, which `scrubbed` of these takes out from now on too.

        The `key` stays: it is about our own secrets.
        """
        merged = CIMultiDict(self.headers)
        merged.update(headers)
        both = type(self)(self._named | dict(named), headers=merged, given=(*self._given, *given))
        both.key = self.key
        self._heir = both
        return both

    def text(self, template: str) -> str:
        """Return `template` with the secrets filled in as they are."""
        return filled(template, self._value) if self._named else template

    def in_url(self, template: str) -> str:
        """Return `template`, a URL or a part of one, with the secrets filled in percent-encoded."""
        return filled(template, lambda name: _escaped(self._value(name), _in_url))

    def target(self, url: URL) -> URL:
        """Return `url` with the secrets filled in, percent-encoded."""
        return URL(self.in_url(str(url)), encoded=True) if self._named else url

    def in_json(self, raw: bytes) -> bytes:
        """Return the JSON `raw` with the secrets filled in inside its strings. Everything else stays byte by byte."""
        if not self._named:
            return raw
        return filled_bytes(raw, lambda name: _escaped(self._value(name), _in_json))

    def in_body(self, body: bytes, content_type: str) -> bytes:
        """Return `body`, in UTF-8, with the secrets filled in as its `content_type` wants them."""
        if "json" in content_type.lower():
            return self.in_json(body)
        is_form = "x-www-form-urlencoded" in content_type.lower()
        return filled_bytes(body, lambda name: _escaped(self._value(name), _in_form if is_form else str.encode))

    def in_form(self, fields: Mapping[str, str]) -> bytes:
        """Return `fields`, with the secrets filled in, as ``application/x-www-form-urlencoded``."""
        return urlencode([(self.text(name), self.text(value)) for name, value in fields.items()]).encode()

    def scrubbed(self, text: str) -> str:
        """Return `text`, such as an error message of the backend, without the secrets that it repeats.

        It finds them as they are, and as they look in JSON, URLs, forms, Basic authentication and Python's `repr`. It
        also finds the first `TELLING_CHARACTERS` or more of one.
        """
        forms = self.telling()
        for beginning in {form[:TELLING_CHARACTERS] for form in forms}:
            text = _without(text, [form for form in forms if form.startswith(beginning)], beginning)
        return text

    def _value(self, name: str) -> str | None:
        secret = self._named.get(name)
        return None if secret is None else secret.reveal()

    def telling(self) -> set[str]:
        """What a message must not contain, granted secrets among it. Made anew, so that no attribute holds them."""
        texts = [secret.reveal() for secret in (*self._named.values(), *self._given)]
        headers = (without_scheme(value) for name, value in self.headers.items() if not is_harmless_header(name))
        texts += [value for value in headers if len(value) >= TELLING_CHARACTERS]
        granted = set() if self._heir is None else self._heir.telling()
        return {form for text in texts for form in _shapes(text) if form} | granted


def _shapes(text: str) -> Iterator[str]:
    """Yield `text` as it looks in the places where a backend, a library or Python repeats it."""
    ascii_only = text.encode("unicode_escape").decode()
    yield from (text, html.escape(text), quote(text), _in_url(text), quote_plus(text), quote(text, safe=_IN_PATHS))
    yield from (_in_json(text).decode(), json.dumps(text)[1:-1], json.dumps(text).replace("/", r"\/")[1:-1])
    yield from (repr(text)[1:-1], repr(text.encode())[2:-1], ascii_only)
    yield text.encode(errors="surrogatepass").decode("latin-1")  # as who takes one charset for the other shows it


def _without(text: str, forms: Sequence[str], beginning: str) -> str:
    """Return `text` with `forms` masked, all of which have this `beginning`, as far as they are repeated."""
    if len(beginning) < _SHORT:  # in the middle of a word it is most probably something else
        return re.sub(rf"(?<!\w){re.escape(beginning)}(?!\w)", MASK, text)
    at = text.find(beginning)
    while at >= 0:
        end = at + max(_same(text[at:], secret) for secret in forms)
        text = f"{text[:at]}{MASK}{text[end:]}"
        at = text.find(beginning, at + len(MASK))
    return text


def _same(text: str, secret: str) -> int:
    """Return how many characters of `secret` stand at the beginning of `text`."""
    return sum(itertools.takewhile(bool, map(operator.eq, text, secret)))


def _digest(named: Mapping[str, Secret]) -> bytes:
    if not named:
        return b""
    values = msgspec.json.encode([(name, named[name].reveal()) for name in sorted(named)])
    return hmac.digest(_PROCESS_KEY, values, "sha256")


def _escaped(value: str | None, escape: Callable[[str], _T]) -> _T | None:
    return None if value is None else escape(value)


def _in_url(text: str) -> str:
    return quote(text, safe="")


def _in_form(text: str) -> bytes:
    return quote_plus(text).encode()


def _in_json(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]
