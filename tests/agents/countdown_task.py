"""A tiny task whose episodes can be counted by hand."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.envs.task import ReferenceReward, Task
from guerdon.types import ActionSpec, Feature, Layout

HORIZON = 12


class Countdown(gym.Env[Any, Any]):
    """Action 1 takes one from a number that starts at 3 to 9; at 0 it is over."""

    observation_space = gym.spaces.Box(0.0, 10.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, flaw: str = "") -> None:
        self.flaw = flaw
        self.left = 0
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(3, 10))
        self.steps = 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.left -= int(action)
        self.steps += 1
        if self.flaw == "raises" and self.steps == 3:
            raise RuntimeError("the simulator fell over")
        done = self.left == 0
        reward = -1.0
        if self.flaw == "nan reward" and self.steps == 3:
            reward = float("nan")
        return self._see(), reward, done, not done and self.steps == HORIZON, {}

    def _see(self) -> np.ndarray:
        bad = self.flaw == "nan observation" and self.steps == 3
        return np.array([np.nan if bad else self.left], np.float32)


def first_number(seed: int) -> int:
    """Where an episode of this seed starts."""
    rng, _ = gym.utils.seeding.np_random(seed)
    return int(rng.integers(3, 10))


def make_task(flaw: str = "") -> Task:
    return Task(
        id="Countdown",
        intent="Count down to zero.",
        make_base=lambda: Countdown(flaw),
        layout=Layout([Feature("left", "what is left", low=0, high=10)]),
        action=ActionSpec("discrete", 2),
        read=lambda env, obs, info: np.array([env.left], np.float32),
        fitness=lambda episode: -float(episode.length),
        success=lambda episode: episode.terminated,
        rewards={"sparse": ReferenceReward(None, "the environment's own")},
        horizon=HORIZON,
        budget=1000,
    )


TASK = make_task()
RAISES = make_task("raises")
NAN_REWARD = make_task("nan reward")
NAN_OBSERVATION = make_task("nan observation")
NAN_FITNESS = replace(TASK, fitness=lambda episode: float("nan"))
NO_FITNESS = replace(TASK, fitness=lambda episode: episode.info["score"])
