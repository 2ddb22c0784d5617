"""Draws without replacement, on integers that hold a few small numbers each."""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import integer


@compiled
def draw_left(state: Any, seed: Any, left: Any) -> Any:
    """One of the numbers whose bits are set, all with the same chance.

    Args:
        state: the numbers of one lane.
        seed: of that lane.
        left: bits of the numbers that are left, at least one; at most 62 bits.
    """
    count = 0
    for bit in range(62):
        count += (left >> bit) & 1
    skip = integer(state, seed, 0, count)
    for bit in range(62):
        if (left >> bit) & 1:
            if skip == 0:
                return bit
            skip -= 1
    return 0


@compiled
def shuffled(state: Any, seed: Any, packed: Any, count: Any) -> Any:
    """The first ``count`` groups of four bits in a random order (Fisher and Yates).

    Args:
        state: the numbers of one lane.
        seed: of that lane.
        packed: the groups; the first one is lowest.
        count: how many, at most 15.
    """
    for last in range(count - 1, 0, -1):
        other = integer(state, seed, 0, last + 1)
        differ = ((packed >> (4 * last)) ^ (packed >> (4 * other))) & 15
        packed ^= differ << (4 * last)
        if other != last:
            packed ^= differ << (4 * other)
    return packed
