"""Random numbers that depend on what they are for, and on nothing else.

A number is a function of (seed, episode, draw): the seed of a lane, how many episodes
it has had, and how many numbers this episode has used. No state is shared, so a result
depends neither on the number of lanes, nor on their order, nor on threads or devices.

The function is Philox4x32-10, keyed by the 64 bits of the seed, with counter (draw,
episode, 0, 0); the first of its four words is used. Integers below a bound are made by
Lemire's multiplication with rejection, so that none is likelier than another.

Only products of two 32-bit words occur, kept modulo 2^64 and masked: the same lines run
in plain Python, in numba on a CPU or GPU, and on 64-bit tensors, with equal results.

Reference: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", SC11;
Lemire 2019, "Fast Random Integer Generation in an Interval", ACM TOMACS 29(1).
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.state import DRAWS, EPISODE

WORD = 0xFFFFFFFF
"""Mask of 32 bits."""


@compiled
def philox(
    seed_low: Any, seed_high: Any, draw: Any, episode: Any, third: Any, fourth: Any
) -> Any:
    """Philox4x32 with ten rounds.

    Args:
        seed_low: first word of the key, in [0, 2^32); so are all the others.
        seed_high: second word of the key.
        draw: first word of the counter.
        episode: second word of the counter.
        third: third word of the counter.
        fourth: fourth word of the counter.

    Returns:
        Four words in [0, 2^32).
    """
    k0, k1 = seed_low, seed_high
    c0, c1, c2, c3 = draw, episode, third, fourth
    for _ in range(10):
        p0 = 0xD2511F53 * c0
        p1 = 0xCD9E8D57 * c2
        c0 = ((p1 >> 32) & WORD) ^ c1 ^ k0
        c2 = ((p0 >> 32) & WORD) ^ c3 ^ k1
        c1 = p1 & WORD
        c3 = p0 & WORD
        k0 = (k0 + 0x9E3779B9) & WORD
        k1 = (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


@compiled
def word(seed: Any, episode: Any, draw: Any) -> Any:
    """The 32 random bits of one draw.

    Args:
        seed: of the lane, at least 0 and below 2^63.
        episode: number of the episode, from 0.
        draw: number of the draw in this episode, from 0.
    """
    key = int(seed)
    low, high = key & WORD, (key >> 32) & WORD
    return philox(low, high, int(draw) & WORD, int(episode) & WORD, 0, 0)[0]


@compiled
def integer(state: Any, seed: Any, low: Any, high: Any) -> Any:
    """A random integer in ``[low, high)``, like MiniGrid's ``_rand_int``.

    Args:
        state: ``(K,)`` int32, the numbers of one lane (see ``state``); its count of
            draws goes up, by one in nearly all cases.
        seed: of the lane.
        low: smallest result.
        high: larger than every result; must be above ``low``.
    """
    number = int(high) - int(low)
    # Of the 2^32 words, 2^32 mod n are one too many for an equal share.
    excess = ((1 << 32) - number) % number
    while True:
        product = word(seed, state[EPISODE], state[DRAWS]) * number
        state[DRAWS] += 1
        if (product & WORD) >= excess:
            return int(low) + ((product >> 32) & WORD)
