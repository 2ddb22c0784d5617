"""A corridor in which what was seen at its beginning must be said at its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from guerdon.agents.arrays import empty_arrays
from guerdon.envs.arrays import Arrays
from guerdon.types import ActionSpec, Feature, Layout


class Recall:
    """The smallest task that needs a memory, and what is best in it is known.

    A sign is shown in the first observation, and whether this is the last one is shown
    in each. What is done before the last step does not matter; the last action is worth
    1 where it names the sign and 0 elsewhere. An agent that remembers gets 1, and no
    agent without a memory gets more than 1/2: what it sees last says nothing.

    Args:
        num_envs: lanes.
        horizon: steps of an episode, at least 2.
    """

    def __init__(self, num_envs: int, horizon: int) -> None:
        self.num_envs, self.horizon = num_envs, horizon
        self.layout = Layout([Feature("sign", "what was shown")])
        self.action = ActionSpec("discrete", 2)
        self.observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
        self._seed, self._episode, self._time, self._sign = (
            np.zeros(num_envs, np.int64) for _ in range(4)
        )
        self._own = empty_arrays(self)

    def _begin(self, lanes: np.ndarray) -> None:
        self._time[lanes] = 0
        for lane in np.flatnonzero(lanes):
            key = int(self._seed[lane]), int(self._episode[lane])
            self._sign[lane] = np.random.default_rng(key).integers(2)

    def _see(self, into: np.ndarray) -> None:
        first, last = self._time == 0, self._time == self.horizon - 1
        into[:, 0] = np.where(first, 2.0 * self._sign - 1.0, 0.0)
        into[:, 1], into[:, 2] = last, 1.0

    def reset(self, seeds: np.ndarray, lanes: np.ndarray | None = None) -> Arrays:
        """Begin episode 0 of a seed; see ``ArrayEnv``."""
        lanes = np.ones(self.num_envs, np.bool_) if lanes is None else lanes
        self._seed[lanes], self._episode[lanes] = seeds[lanes], 0
        self._begin(lanes)
        self._see(self._own.obs)
        self._own.first[:, 0] = self._sign
        return self._own

    def step(self, actions: np.ndarray, out: Arrays | None = None) -> Arrays:
        """One step of every lane; see ``ArrayEnv``."""
        out = out or self._own
        over = self._time == self.horizon - 1
        right = over & (actions == self._sign)
        out.reward[...] = out.fitness[...] = right
        out.success[...], out.terminated[...], out.truncated[...] = right, over, False
        out.features[:, 0] = self._sign
        self._time += 1
        self._see(out.final_obs)
        self._episode[over] += 1
        self._begin(over)
        self._see(out.obs)
        out.first[:, 0] = self._sign
        return out

    def close(self) -> Any:
        """Nothing is held."""
