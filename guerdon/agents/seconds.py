"""Where the time of a training went, as it is measured and as it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guerdon.checks import number

MEASURED = ("acting", "environment", "rewards", "update", "evaluation")
"""Parts of a training that can be told apart; the rest is begin, files and end."""

_SLACK = 1e-6
"""Sums of rounded numbers may exceed their whole by so much of it."""


def checked_seconds(value: Any, wall: float) -> dict[str, float]:
    """Seconds by part of a training that took ``wall`` seconds.

    Raises:
        TypeError: for what is no mapping of numbers.
        ValueError: for an unknown part, a number below zero or not finite, or parts
            that take longer than the whole.

    >>> checked_seconds({"acting": 1.0, "update": 2}, wall=3.0)
    {'acting': 1.0, 'update': 2.0}
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"seconds: expected an object, got {type(value).__name__}")
    if not set(value) <= set(MEASURED):
        raise ValueError(f"seconds: expected parts of {', '.join(MEASURED)}")
    parts = {
        name: float(number(f"seconds.{name}", value[name], least=0.0))
        for name in MEASURED
        if name in value
    }
    if sum(parts.values()) > wall + _SLACK * (1.0 + wall):
        raise ValueError(f"seconds: expected parts of {wall:g}, got more")
    return parts
