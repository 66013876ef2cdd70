"""A short text that is equal for equal configurations, and from which none can be found out."""

import hashlib

import msgspec

from tidegate.config.model import Config

COST = 4096
"""How often scrypt mixes a block of 1 KiB. So a guess at a secret in a configuration costs 4 MiB and about 30 ms."""

BYTES = 8


def config_hash(config: Config) -> str:
    """Return 16 hexadecimal digits. Secrets count; the content of files that `config` names does not.

    Takes about 30 ms.
    """
    text = msgspec.json.encode(config, order="deterministic")
    return hashlib.scrypt(text, salt=b"tidegate configuration", n=COST, r=8, p=1, dklen=BYTES).hex()
