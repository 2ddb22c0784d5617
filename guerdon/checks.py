"""Arguments that are refused where they come in, by name."""

from __future__ import annotations

import math
import operator
import sys
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


def number(name: str, value: Any, least: float = -math.inf) -> float:
    """A finite number within its bound; flags and texts do not count as one.

    Raises:
        TypeError: for what is no number.
        ValueError: for one that is not finite or too small.

    >>> number("seconds", 2, least=0.0)
    2
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not abs(value) <= sys.float_info.max or value < least:
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"{name}: expected a finite number{bound}, got {value}")
    return value


def inside(name: str, value: Any) -> str:
    """A file's path that never leads out of the folder that it is relative to.

    Raises:
        TypeError: for what is no text.
        ValueError: for an absolute path, for one through ``..``, and for signs that
            are a way out on some system.

    >>> inside("weights", "trainings/a.safetensors")
    'trainings/a.safetensors'
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected text, got {type(value).__name__}")
    steps = value.split("/")
    if any(step in ("", ".", "..") for step in steps) or set(value) & set("\\:\0"):
        raise ValueError(
            f"{name}: expected a path that stays inside its folder, got {value[:200]!r}"
        )
    return value
