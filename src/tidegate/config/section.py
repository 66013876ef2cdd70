"""What all tables of the configuration have in common."""

import msgspec

from tidegate.core.masking import Masked


class Section(Masked, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""
