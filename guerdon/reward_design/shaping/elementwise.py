"""Transforms that look at one number at a time."""

from __future__ import annotations

import math

import numpy as np

from guerdon.reward_design.borders import namespace
from guerdon.reward_design.made import remade
from guerdon.reward_design.program import State, Transform
from guerdon.types import Array, Batch


@remade
def clip(low: float, high: float) -> Transform:
    """Every number into ``[low, high]``; NaN stays NaN.

    Shapes:
        ``(*L[, m]) -> (*L[, m])``: applied to the terms where they are apart.

    Raises:
        ValueError: unless ``low < high``.
    """
    if not low < high:
        raise ValueError(f"clip: expected low < high, got [{low}, {high}]")

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        if namespace(r) is np:
            return np.minimum(np.maximum(r, low), high), state
        return r.clamp(low, high), state

    return Transform(lambda spec: None, apply, frozenset({"monotone"}))


@remade
def scale(factor: float) -> Transform:
    """Every number times ``factor``.

    Shapes:
        ``(*L[, m]) -> (*L[, m])``.

    Raises:
        ValueError: when ``factor`` is not finite.
    """
    if not math.isfinite(factor):
        raise ValueError(f"scale: expected a finite factor, got {factor}")

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        return r * float(factor), state

    tags = frozenset({"monotone"}) if factor >= 0 else frozenset[str]()
    return Transform(lambda spec: None, apply, tags)
