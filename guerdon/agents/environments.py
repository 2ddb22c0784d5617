"""The environment of a task as an agent sees it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from guerdon.envs.minigrid_view import use_fast_view
from guerdon.envs.task import Task

Env = gym.Env[Any, Any]


class NonFinite(ValueError):
    """A number that no agent can learn from, or that is no score."""


def make_env(task: Task) -> Env:
    """One environment with an observation that a network can read.

    Observations that are no plain array (dictionaries, tuples, choices) are
    flattened to one. MiniGrid's view is computed in place: the same bytes, in a
    fraction of the time.
    """
    env: Env = task.make()
    if task.family == "minigrid":
        use_fast_view(env)
    if isinstance(env.observation_space, spaces.Box):
        return env
    return gym.wrappers.FlattenObservation(env)
