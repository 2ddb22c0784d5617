"""MiniGrid played on the engine's random numbers: the oracle of the generators.

MiniGrid asks a NumPy generator for its numbers. Given ``OurNumbers`` in its place, with
the same seed and episode, it must build the level that the engine builds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from guerdon.envs.grid.random import word


class OurNumbers:
    """The numbers of one episode of one lane, asked for as MiniGrid does."""

    def __init__(self, seed: int, episode: int = 0, draws: int = 0) -> None:
        self.seed, self.episode, self.draws = seed, episode, draws

    def integers(self, low: int, high: int | None = None) -> int:
        low, high = (0, low) if high is None else (low, high)
        number = int(high) - int(low)
        excess = 2**32 % number
        while True:
            product = int(word(self.seed, self.episode, self.draws)) * number
            self.draws += 1
            if product % 2**32 >= excess:
                return int(low) + product // 2**32

    def shuffle(self, things: list[Any]) -> None:
        for i in range(len(things) - 1, 0, -1):
            j = self.integers(0, i + 1)
            things[i], things[j] = things[j], things[i]

    def choice(self, things: Any) -> Any:
        return things[self.integers(0, len(things))]


def give(env: Any, numbers: OurNumbers) -> None:
    """Let a MiniGrid environment use these numbers from now on."""
    env.unwrapped._np_random = numbers


def reset_on(env: Any, numbers: OurNumbers) -> tuple[Any, Any]:
    """Reset a MiniGrid environment on these numbers."""
    give(env, numbers)
    return env.unwrapped.reset()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
