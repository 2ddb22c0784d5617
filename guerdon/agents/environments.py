"""The environment of a task as an agent sees it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from guerdon.envs.task import Task

Env = gym.Env[Any, Any]

MINIGRID_CODES = (11, 6, 4)
"""Number of objects, colours and states in MiniGrid's encoding (its constants.py)."""


def make_env(task: Task) -> Env:
    """One environment with an observation that a network can read.

    Observations that are no plain array (dictionaries, tuples, choices) are
    flattened to one.
    """
    env: Env = task.make()
    if isinstance(env.observation_space, spaces.Box):
        return env
    return gym.wrappers.FlattenObservation(env)


def grid_space(height: int, width: int, codes: tuple[int, ...]) -> spaces.Box:
    """A space of ``(height, width, len(codes))`` codes that says how large they get.

    MiniGrid declares its view as a picture with values up to 255. Bounds that are
    true tell an encoder how wide a one-hot is, and keep libraries from taking
    codes for pixels.
    """
    largest = np.asarray(codes, np.uint8) - np.uint8(1)
    high = np.broadcast_to(largest, (height, width, len(codes))).copy()
    return spaces.Box(np.zeros_like(high), high, dtype=np.uint8)


def observation_space(env: Env, one_hot: bool) -> spaces.Box:
    """The space that the agent is built for.

    Args:
        env: an environment of ``make_env``.
        one_hot: whether the recipe reads a grid of codes.

    Raises:
        ValueError: when a grid is asked for and there is none.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Box):
        raise ValueError(f"observation: expected a Box, got {space}")
    if not one_hot:
        return space
    if space.dtype != np.uint8 or len(space.shape) != 3 or space.shape[2] != 3:
        raise ValueError(
            "one-hot reading: expected MiniGrid's (height, width, 3) uint8 view, "
            f"got {space}"
        )
    return grid_space(space.shape[0], space.shape[1], MINIGRID_CODES)
