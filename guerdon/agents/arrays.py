"""Gymnasium environments of a task as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from guerdon.agents.environments import make_env
from guerdon.envs.arrays import ArrayEnv, Arrays
from guerdon.envs.task import Task


@runtime_checkable
class Shrinking(Protocol):
    """An ``ArrayEnv`` that can go on with some of its lanes."""

    def select(self, lanes: np.ndarray) -> ArrayEnv:
        """The env with these lanes only, ``(M,)`` indices, in their states."""
        ...


@runtime_checkable
class Masked(Protocol):
    """An ``ArrayEnv`` that knows which choices are possible."""

    def action_masks(self) -> np.ndarray:
        """``(N, A)`` bool for the next step of every lane."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """Whatever can be put down and taken up again: an env, or block rewards."""

    def get_lanes(self) -> dict[str, np.ndarray]:
        """All that the future depends on, in arrays with a row per lane."""
        ...

    def set_lanes(self, values: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``get_lanes`` gave, here or in envs with other lanes."""
        ...


def empty_arrays(env: ArrayEnv, lanes: int | None = None) -> Arrays:
    """Arrays of zeros as ``env.step`` fills them, for ``lanes`` or all lanes."""
    n = env.num_envs if lanes is None else lanes
    space, width = env.observation_space, env.layout.width
    return Arrays(
        obs=np.zeros((n, *space.shape), space.dtype),
        reward=np.zeros(n, np.float32),
        terminated=np.zeros(n, np.bool_),
        truncated=np.zeros(n, np.bool_),
        features=np.zeros((n, width), np.float32),
        first=np.zeros((n, width), np.float32),
        final_obs=np.zeros((n, *space.shape), space.dtype),
        fitness=np.zeros(n, np.float32),
        success=np.zeros(n, np.bool_),
    )


def shrunk(env: ArrayEnv, lanes: np.ndarray) -> ArrayEnv:
    """An env that goes on with some lanes; the others cost nothing if it can."""
    return env.select(lanes) if isinstance(env, Shrinking) else idle(env, lanes)


def idle(env: ArrayEnv, lanes: np.ndarray) -> Lanes:
    """Some lanes of an env, with their masks if it has masks."""
    return (MaskedLanes if isinstance(env, Masked) else Lanes)(env, lanes)


class Lanes:
    """Some lanes of an env that cannot do without the others; those stand idle.

    Args:
        env: all lanes.
        lanes: ``(M,)`` indices of the ones that are shown, without repetition.
    """

    def __init__(self, env: ArrayEnv, lanes: np.ndarray) -> None:
        self._env, self._lanes = env, np.asarray(lanes)
        self.num_envs = len(self._lanes)
        self.layout, self.action = env.layout, env.action
        self.observation_space, self.horizon = env.observation_space, env.horizon
        self._own = empty_arrays(env, self.num_envs)

    def reset(self, seeds: np.ndarray, lanes: np.ndarray | None = None) -> Arrays:
        """Begin episode 0 of each seed; see ``ArrayEnv``."""
        full = np.zeros(self._env.num_envs, np.int64)
        mask = np.zeros(self._env.num_envs, np.bool_)
        full[self._lanes] = seeds
        mask[self._lanes] = True if lanes is None else lanes
        return self._shown(self._env.reset(full, mask), self._own)

    def step(self, actions: np.ndarray, out: Arrays | None = None) -> Arrays:
        """One step of every lane that is shown; see ``ArrayEnv``."""
        full = np.zeros((self._env.num_envs, *actions.shape[1:]), actions.dtype)
        full[self._lanes] = actions
        return self._shown(self._env.step(full), out or self._own)

    def select(self, lanes: np.ndarray) -> ArrayEnv:
        """Fewer still."""
        return idle(self._env, self._lanes[lanes])

    def close(self) -> None:
        """Give up the env."""
        self._env.close()

    def _shown(self, arrays: Arrays, out: Arrays) -> Arrays:
        for values, into in zip(arrays, out, strict=True):
            into[...] = values[self._lanes]
        return out


class MaskedLanes(Lanes):
    """``Lanes`` of an env that knows which choices are possible."""

    def action_masks(self) -> np.ndarray:
        """``(M, A)`` bool for the next step; see ``Masked``."""
        env: Any = self._env
        masks: np.ndarray = env.action_masks()[self._lanes]
        return masks


class VectorArrays:
    """A Gymnasium vector env of a task, as an ``ArrayEnv``.

    Observations that are no plain array are flattened to one, and float64 becomes
    float32, as networks read it. Masks of actions are not passed on: what Gymnasium's
    environments tell of them has no common form.

    Args:
        task: makes the environments, unless ``vector`` brings them.
        num_envs: number of lanes.
        vector: any vector env whose ``info`` has what a ``TaskEnv`` puts there, and
            whose episodes begin again in the same step.

    Raises:
        ValueError: for a vector env of another size or another autoreset, or an
            observation that is no array.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        vector: VectorEnv[Any, Any, Any] | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
        if vector is None:
            vector = SyncVectorEnv(
                [lambda: make_env(task)] * num_envs,
                autoreset_mode=AutoresetMode.SAME_STEP,
            )
        mode = vector.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"vector env: expected autoreset_mode SAME_STEP, got {mode}; the true "
                "successor of an episode's last step would be lost"
            )
        if vector.num_envs != num_envs:
            raise ValueError(
                f"vector env: expected {num_envs} environments, got {vector.num_envs}"
            )
        space = vector.single_observation_space
        if not isinstance(space, spaces.Box):
            raise ValueError(f"vector env: expected a Box to observe, got {space}")
        if space.dtype == np.float64:
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
            space = spaces.Box(low, high, dtype=np.float32)
        self._task, self._vector = task, vector
        self.num_envs = num_envs
        self.layout, self.action = task.layout, task.action
        self.observation_space, self.horizon = space, task.horizon
        self._own = empty_arrays(self)

    def reset(self, seeds: np.ndarray, lanes: np.ndarray | None = None) -> Arrays:
        """Begin episode 0 of each seed; see ``ArrayEnv``."""
        mask = np.ones(self.num_envs, np.bool_) if lanes is None else lanes
        numbers: Any = [int(seed) for seed in seeds]
        obs, info = self._vector.reset(
            seed=numbers, options={"reset_mask": np.array(mask)}
        )
        own = self._own
        own.obs[mask] = obs[mask]
        own.first[mask] = own.features[mask] = info["features"][mask]
        for ends in (own.terminated, own.truncated):
            ends[mask] = False
        return own

    def step(self, actions: np.ndarray, out: Arrays | None = None) -> Arrays:
        """One step of every lane; see ``ArrayEnv``."""
        out = out or self._own
        obs, reward, terminated, truncated, info = self._vector.step(actions)
        out.obs[...] = obs
        out.reward[...] = reward
        out.terminated[...] = terminated
        out.truncated[...] = truncated
        out.first[...] = info["features"]
        out.features[...] = out.first
        over = terminated | truncated
        if over.any():
            final = info["final_info"]
            out.features[over] = final["features"][over]
            out.fitness[over] = final["fitness"][over]
            out.success[over] = final["success"][over]
            out.final_obs[over] = np.stack(list(info["final_obs"][over]))
        return out

    def select(self, lanes: np.ndarray) -> ArrayEnv:
        """The env with these lanes only; the others are closed if that can be done."""
        vector = self._vector
        if type(vector) is not SyncVectorEnv:
            return idle(self, lanes)
        kept = [vector.envs[lane] for lane in lanes]
        for env in vector.envs:
            if not any(env is one for one in kept):
                env.close()  # type: ignore[no-untyped-call]

        def same(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
            return env

        makers = [lambda env=env: same(env) for env in kept]
        mode = AutoresetMode.SAME_STEP
        fewer = SyncVectorEnv(makers, autoreset_mode=mode)
        return VectorArrays(self._task, len(kept), vector=fewer)

    def close(self) -> None:
        """Close all environments."""
        self._vector.close()
