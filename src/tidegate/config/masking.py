"""What must not be shown of a configuration: credentials in values, in URLs and in text that was refused."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

_SECRET_NAME = re.compile(r"auth|cookie|token|secret|passw|credential|session|api[-_]?key|private", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_SECRET_PARAMETER = re.compile(rf"([?&][^=&#]*(?:{_SECRET_NAME.pattern})[^=&#]*=)[^&#\s]*", re.IGNORECASE)
_ANY_USERINFO = re.compile(r"(?<=://).*@", re.DOTALL)


def is_secret_name(name: str) -> bool:
    """Whether a header, parameter or key of this name is likely to hold a credential."""
    return bool(_SECRET_NAME.search(name)) and not name.endswith("_file")


def mask_url(url: str) -> str:
    """`url` without its userinfo and without the values of query parameters that look like credentials."""
    return _SECRET_PARAMETER.sub(rf"\g<1>{MASK}", _USERINFO.sub(f"{MASK}@", url))


def mask_text(text: str) -> str:
    """`mask_url` for text that may be a malformed URL: everything that could be userinfo is hidden."""
    return mask_url(_ANY_USERINFO.sub(f"{MASK}@", text))


def mask_named(values: Any) -> Any:
    """`values` with the text under secret names masked, at any depth of tables and lists."""
    if isinstance(values, Mapping):
        return {
            name: MASK if isinstance(value, str) and is_secret_name(name) else mask_named(value)
            for name, value in values.items()
        }
    if isinstance(values, list):
        return [mask_named(value) for value in values]
    return values
