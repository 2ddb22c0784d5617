"""Sizes of the examples: full ones, or tiny ones with GUERDON_QUICK=1."""

import os
from typing import TypeVar

T = TypeVar("T")


def pick(full: T, tiny: T) -> T:
    """The size to use: ``tiny`` where somebody only wants to see that it runs."""
    return tiny if os.environ.get("GUERDON_QUICK", "") in ("1", "true") else full
