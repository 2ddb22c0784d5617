"""A task: an environment, its true score, and what a reward may see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.types import ActionSpec, Episode, Feature, Features, Layout

__all__ = ["Feature", "ReferenceReward", "Task", "TaskEnv"]

Reader = Callable[[gym.Env[Any, Any], Any, Mapping[str, Any]], np.ndarray]
"""``(unwrapped env, observation, info) -> (W,) float32`` feature row."""


@dataclass(frozen=True, slots=True)
class ReferenceReward:
    """A published reward to compare with.

    Args:
        source: text in the reward language, or None for the environment's own.
        origin: where it comes from: a paper, a documentation page, a file.
    """

    source: str | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """An environment with a true score.

    Args:
        id: the Gymnasium id, ``guerdon/DoorKey-8x8-v0``.
        intent: one sentence that says what the agent should achieve.
        make_base: makes the raw environment; takes Gymnasium's keywords such as
            ``render_mode``.
        layout: the features that a reward may name.
        action: what the agent may do.
        read: reads one feature row from the raw environment.
        fitness: the true score of one episode; higher is better.
        success: whether one episode solved the task.
        rewards: reference rewards by name; ``sparse`` always, ``human`` where one
            is published.
        horizon: steps after which an episode is truncated.
        budget: training steps at which the task is usually reported.
        family: ``minigrid``, ``classic``, ``box2d``, ``mujoco`` or ``custom``.
        source: where the environment comes from.
    """

    id: str
    intent: str
    make_base: Callable[..., gym.Env[Any, Any]]
    layout: Layout
    action: ActionSpec
    read: Reader
    fitness: Callable[[Episode], float]
    success: Callable[[Episode], bool]
    rewards: Mapping[str, ReferenceReward]
    horizon: int
    budget: int
    family: str = "custom"
    source: str = ""
    extra: str | None = field(default=None)
    """Name of the optional extra that the environment needs."""

    def make(self, **kwargs: Any) -> TaskEnv:
        """One environment of this task; keywords go to the raw environment."""
        return TaskEnv(self.make_base(**kwargs), self)

    def view(self, info: Mapping[str, Any]) -> Features:
        """Named features of an ``info`` that the task's environment returned."""
        return Features(self.layout, info["features"])


class TaskEnv(gym.Wrapper[Any, Any, Any, Any]):
    """The raw environment of a task, with features and the true score in ``info``.

    Every ``info`` holds ``features``, a ``(W,)`` float32 row (``task.view`` names
    it). The last ``info`` of an episode also holds ``fitness`` and ``success``,
    computed here from the raw rewards, so no outer wrapper can change them.
    """
