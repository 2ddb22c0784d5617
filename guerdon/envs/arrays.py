"""Many environments of one task as arrays: what our own agents learn from.

A step of a lane (one environment of the batch) is a row of every array. Episodes begin
again in the step in which they end, and the true successor is never lost: an agent
that ends at a time limit still has a future to be bootstrapped from.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from guerdon.types import ActionSpec, Layout


class Arrays(NamedTuple):
    """What N lanes have after a step, in arrays that the next step may overwrite."""

    obs: np.ndarray
    """``(N, *obs)`` what a policy sees next: after an end, the new episode's first."""
    reward: np.ndarray
    """``(N,)`` float32, the environment's own."""
    terminated: np.ndarray
    """``(N,)`` bool."""
    truncated: np.ndarray
    """``(N,)`` bool, never merged with ``terminated``."""
    features: np.ndarray
    """``(N, W)`` float32 of the true successor, before any new episode."""
    first: np.ndarray
    """``(N, W)`` float32 from which the next step starts: the new episode's after an
    end, else equal to ``features``."""
    final_obs: np.ndarray
    """``(N, *obs)`` of the true successor; valid where an episode ended."""
    fitness: np.ndarray
    """``(N,)`` float32, the task's true score; valid where an episode ended."""
    success: np.ndarray
    """``(N,)`` bool; valid where an episode ended."""


class ArrayEnv(Protocol):
    """N environments of one task, stepped together.

    What happens in a lane depends on its seed, its actions and the number of its
    episode, never on the other lanes: lanes with equal seeds meet equal worlds.
    """

    num_envs: int
    layout: Layout
    action: ActionSpec
    observation_space: spaces.Box
    """Of one lane."""
    horizon: int

    def reset(self, seeds: np.ndarray, lanes: np.ndarray | None = None) -> Arrays:
        """Begin episode 0 of a seed.

        Args:
            seeds: ``(N,)`` int64, at least 0.
            lanes: ``(N,)`` bool, which lanes begin anew; the others go on. None: all.
        """
        ...

    def step(self, actions: np.ndarray, out: Arrays | None = None) -> Arrays:
        """One step of every lane.

        Args:
            actions: ``(N,)`` int64 choices or ``(N, A)`` float numbers.
            out: arrays to write to, such as rows of a rollout; None: the env's own.
        """
        ...

    def close(self) -> Any:
        """Give up what is held."""
        ...
