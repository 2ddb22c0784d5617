"""A task whose every number can be computed by hand.

Episode ``k`` of lane ``i`` starts at ``x = 100 i + 10 k``; a step adds ``1 + action``
and pays ``x / 2``. Even episodes terminate at their third step, odd ones are
truncated at their second, so a wrong successor or a lost border is off by tens.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.envs.task import ReferenceReward, Task
from guerdon.types import ActionSpec, Feature, Layout

LAYOUT = Layout(
    [
        Feature("x", "position", low=0, high=1000),
        Feature("pair", "position and time", shape=(2,)),
        Feature("late", "two steps or more were made", kind="flag"),
    ]
)


class ToyEnv(gym.Env[np.ndarray, int]):
    """See the module."""

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's convention

    def __init__(self, lane: int = 0) -> None:
        self.observation_space = gym.spaces.Box(-1e6, 1e6, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(3)
        self.lane, self.episode, self.time, self.x = lane, -1, 0, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.time, self.x = 0, 100.0 * self.lane + 10.0 * self.episode
        return np.array([self.x], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.time += 1
        self.x += 1.0 + float(action)
        even = self.episode % 2 == 0
        terminated, truncated = even and self.time == 3, not even and self.time == 2
        obs = np.array([self.x], np.float32)
        return obs, self.x / 2, terminated, truncated, {}


def read(env: Any, obs: Any, info: Any) -> np.ndarray:
    return np.array([env.x, env.x, env.time, env.time >= 2], np.float32)


def toy_task(**changes: Any) -> Task:
    known: dict[str, Any] = {
        "id": "toy/Toy-v0",
        "intent": "Go right.",
        "make_base": ToyEnv,
        "layout": LAYOUT,
        "action": ActionSpec("discrete", 3, ("one", "two", "three")),
        "read": read,
        "fitness": lambda episode: float(episode.reward.sum()),
        "success": lambda episode: bool(episode.terminated),
        "rewards": {"sparse": ReferenceReward(None, "the toy itself")},
        "horizon": 3,
        "budget": 100,
    }
    return Task(**{**known, **changes})
