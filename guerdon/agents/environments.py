"""The environments of a task as an agent sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from guerdon.envs.minigrid_view import use_fast_view
from guerdon.envs.task import Task, TaskEnv

Env = gym.Env[Any, Any]


class NonFinite(ValueError):
    """A number that no agent can learn from, or that is no score."""


def make_env(task: Task) -> Env:
    """One environment with an observation that a network can read.

    Observations that are no plain array (dictionaries, tuples, choices) are
    flattened to one. The view of Farama's MiniGrid is computed in place: the same
    bytes, in a fraction of the time.
    """
    env: Env = task.make()
    if task.family == "minigrid" and isinstance(env, TaskEnv):
        use_fast_view(env)
    if isinstance(env.observation_space, spaces.Box):
        return env
    return gym.wrappers.FlattenObservation(env)


class Step(NamedTuple):
    """What one environment gave."""

    obs: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


class Slots(Protocol):
    """Places in which episodes are played side by side, each begun by itself."""

    def begin(self, slot: int, seed: int) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Start an episode in a slot; its first observation and info."""
        ...

    def step(self, slots: Sequence[int], actions: np.ndarray) -> list[Step]:
        """One step in each of these slots; what happens in the others is no matter."""
        ...

    def close(self) -> None:
        """Give up the environments."""
        ...


def make_slots(task: Task, count: int) -> Slots:
    """So many slots for a task, on its batched engine where that is installed."""
    return EnvSlots(task, count) if task.fast() is None else LaneSlots(task, count)


class EnvSlots:
    """An environment for every slot."""

    def __init__(self, task: Task, count: int) -> None:
        self._envs = [make_env(task) for _ in range(count)]

    def begin(self, slot: int, seed: int) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Start an episode in a slot."""
        return self._envs[slot].reset(seed=seed)

    def step(self, slots: Sequence[int], actions: np.ndarray) -> list[Step]:
        """One step in each of these slots."""
        return [
            Step(*self._envs[slot].step(action))  # type: ignore[arg-type]
            for slot, action in zip(slots, actions, strict=True)
        ]

    def close(self) -> None:
        """Close all environments."""
        for env in self._envs:
            env.close()  # type: ignore[no-untyped-call]


class LaneSlots:
    """A lane of the task's engine for every slot."""

    def __init__(self, task: Task, count: int) -> None:
        mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._env = task.make_vec(count, vector_kwargs=mode)
        self._env.reset(seed=0)
        self._count = count

    def begin(self, slot: int, seed: int) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Start an episode in a slot."""
        mask = np.zeros(self._count, np.bool_)
        mask[slot] = True
        obs, infos = self._env.reset(
            seed=[seed if chosen else None for chosen in mask],  # type: ignore[arg-type]
            options={"reset_mask": mask},
        )
        return obs[slot], {"features": infos["features"][slot]}

    def step(self, slots: Sequence[int], actions: np.ndarray) -> list[Step]:
        """One step in each of these slots; the others turn left."""
        given = np.zeros(self._count, np.int64)
        given[list(slots)] = actions
        obs, rewards, terminated, truncated, infos = self._env.step(given)
        return [
            lane_step(slot, obs, rewards, terminated, truncated, infos)
            for slot in slots
        ]

    def close(self) -> None:
        """Give up the engine."""
        self._env.close()


def lane_step(
    lane: int,
    obs: np.ndarray,
    rewards: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    infos: Mapping[str, Any],
) -> Step:
    """What one lane gave in a step of many, whose episodes begin again in it."""
    ends = bool(terminated[lane]), bool(truncated[lane])
    reward = float(rewards[lane])
    if not any(ends):
        return Step(obs[lane], reward, *ends, {"features": infos["features"][lane]})
    last = infos["final_info"]
    info = {
        "features": last["features"][lane],
        "fitness": float(last["fitness"][lane]),
        "success": bool(last["success"][lane]),
    }
    return Step(infos["final_obs"][lane], reward, *ends, info)
