"""A small world in arrays whose every number follows from seed, episode and actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from guerdon.agents.arrays import empty_arrays
from guerdon.envs.arrays import Arrays
from guerdon.types import ActionSpec, Batch, Feature, Layout

HIGH = np.array([4, 2], np.uint8)


def mixed(*numbers: np.ndarray) -> np.ndarray:
    """A hash of whole numbers, ``(N,)`` uint64."""
    total = np.uint64(0x9E3779B97F4A7C15) + np.zeros(len(numbers[0]), np.uint64)
    for number in numbers:
        total = (total ^ number.astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
        total ^= total >> np.uint64(29)
    return total


class Toy:
    """Episodes end by chance or after ``horizon`` steps, sometimes by both at once."""

    def __init__(
        self,
        num_envs: int,
        *,
        grid: bool = False,
        continuous: bool = False,
        horizon: int = 5,
    ) -> None:
        self.num_envs, self.horizon, self.grid = num_envs, horizon, grid
        self.layout = Layout([Feature("x", "where it is"), Feature("t", "the time")])
        self.action = ActionSpec("discrete", 3)
        if continuous:
            self.action = ActionSpec("continuous", 2, (), (-0.5, -0.5), (0.5, 1.0))
        if grid:
            high = np.broadcast_to(HIGH, (3, 3, 2)).copy()
            self.observation_space = spaces.Box(
                np.zeros_like(high), high, dtype=np.uint8
            )
        else:
            self.observation_space = spaces.Box(-9.0, 9.0, (4,), np.float32)
        zeros = [np.zeros(num_envs, np.int64) for _ in range(4)]
        self.seed, self.episode, self.time, self.place = zeros
        self.poison: tuple[int, int, str] | None = None
        self._steps = 0
        self._own = empty_arrays(self)

    def get_lanes(self) -> dict[str, np.ndarray]:
        names = ("seed", "episode", "time", "place")
        return {name: getattr(self, name).copy() for name in names}

    def set_lanes(self, values: Mapping[str, np.ndarray]) -> None:
        for name, array in values.items():
            setattr(self, name, array.copy())

    def _features(self) -> np.ndarray:
        return np.stack([self.place % 7 / 7.0, self.time], 1).astype(np.float32)

    def _see(self) -> np.ndarray:
        keys = [
            mixed(self.place, self.time, np.full(self.num_envs, i)) for i in range(18)
        ]
        table = np.stack(keys, 1)
        if self.grid:
            codes = table.reshape(-1, 3, 3, 2) % (HIGH + np.uint64(1))
            return codes.astype(np.uint8)
        return (table[:, :4] % np.uint64(1000) / 250.0 - 2.0).astype(np.float32)

    def _begin(self, lanes: np.ndarray) -> None:
        self.time[lanes] = 0
        fresh = mixed(self.seed, self.episode) >> np.uint64(40)
        self.place[lanes] = fresh.astype(np.int64)[lanes]

    def reset(self, seeds: np.ndarray, lanes: np.ndarray | None = None) -> Arrays:
        lanes = np.ones(self.num_envs, np.bool_) if lanes is None else lanes
        self.seed[lanes], self.episode[lanes] = seeds[lanes], 0
        self._begin(lanes)
        self._own.obs[...], self._own.first[...] = self._see(), self._features()
        return self._own

    def step(self, actions: np.ndarray, out: Arrays | None = None) -> Arrays:
        out = out or self._own
        if self.action.kind == "continuous":
            assert (actions >= self.action.low).all()
            assert (actions <= self.action.high).all()
            actions = (np.abs(actions).sum(1) * 10).astype(np.int64)
        hashed = mixed(self.place, self.time, actions) >> np.uint64(40)
        self.place, self.time = hashed.astype(np.int64), self.time + 1
        out.reward[...] = (self.place % 5) - 2.0 + 0.5 * actions
        out.terminated[...] = self.place % 6 == 0
        out.truncated[...] = self.time >= self.horizon
        out.features[...], out.final_obs[...] = self._features(), self._see()
        out.fitness[...], out.success[...] = self.place % 4, self.place % 2 == 0
        over = out.terminated | out.truncated
        self.episode[over] += 1
        self._begin(over)
        out.obs[...], out.first[...] = self._see(), self._features()
        self._steps += 1
        if self.poison is not None and self._steps == self.poison[0]:
            _, lane, what = self.poison
            getattr(out, what)[lane] = np.nan
        return out

    def close(self) -> Any:
        pass


class Guarded(Toy):
    """Forbids what its state says."""

    def action_masks(self) -> np.ndarray:
        masks = np.ones((self.num_envs, 3), np.bool_)
        masks[np.arange(self.num_envs), self.place % 3] = False
        return masks


class Scaled:
    """Pays row ``k`` its own multiple of the environment's reward."""

    def __init__(self, factors: Sequence[float]) -> None:
        self.factors = list(factors)
        self.restarted: list[int] = []

    def __call__(self, batch: Batch) -> np.ndarray:
        steps = len(batch.reward)
        table = batch.reward.reshape(steps, len(self.factors), -1)
        return table * np.array(self.factors, np.float32)[:, None]

    def select(self, rows: Sequence[int]) -> None:
        self.factors = [self.factors[r] for r in rows]

    def restart(self, row: int) -> None:
        self.restarted.append(row)
