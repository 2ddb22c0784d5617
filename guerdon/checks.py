"""Arguments that are refused where they come in, by name."""

from __future__ import annotations

import operator
from typing import Any

MOST = 2**53
"""Largest whole number that every reader of JSON keeps exactly."""


def integer(name: str, value: Any, least: int = 0, most: int = MOST) -> int:
    """A whole number within its bounds, as a plain ``int``.

    NumPy's whole numbers count as such; flags, texts and fractions do not.

    Raises:
        TypeError: for what is no whole number.
        ValueError: for a number out of bounds.

    >>> integer("steps", 100, least=1)
    100
    """
    try:
        # A flag would pass for 0 or 1, and was hardly meant as such.
        plain = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        plain = None
    if plain is None:
        raise TypeError(
            f"{name}: expected a whole number, got {value!r} ({type(value).__name__})"
        )
    if plain < least:
        raise ValueError(f"{name}: expected at least {least}, got {plain}")
    if plain > most:
        raise ValueError(f"{name}: expected at most {most}, got {plain}")
    return plain
