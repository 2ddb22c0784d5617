"""Reward programs on Stable-Baselines3's vector environments."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from guerdon.envs.task import Task
from guerdon.extras import require
from guerdon.reward_design.adapters.stream import (
    Bools,
    RewardStream,
    Rows,
    replace_rows,
    task_of,
)
from guerdon.reward_design.program import RewardProgram

require("stable_baselines3", "sb3")
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper  # noqa: E402


class RewardVecEnv(VecEnvWrapper):
    """Pays what a program says, one step at a time.

    SB3 resets in the step that ends an episode. The true successor's features are
    those of that step's ``info`` and its observation is ``terminal_observation``; the
    next episode's first features come from ``reset_infos``. SB3 merges the two end
    flags: ``TimeLimit.truncated`` tells them apart, and a step that is both counts as
    terminated, which is what its bootstrap does too.

    Every ``info`` gets ``reward_env``, the environment's own reward; the last one of
    an episode gets ``episode_terms`` (name -> sum) and ``episode_reward``.

    Args:
        venv: environments of one task.
        program: what to pay.
        discount: the agent's ``gamma``.
        task: asked of the environments when None; needed when they live in other
            processes.

    Raises:
        TypeError: for what is no VecEnv.
        ValueError: when no task is found.
    """

    def __init__(
        self,
        venv: VecEnv,
        program: RewardProgram,
        *,
        discount: float = 0.99,
        task: Task | None = None,
    ) -> None:
        if not isinstance(venv, VecEnv):
            raise TypeError(
                f"venv: expected a VecEnv of Stable-Baselines3, got {venv!r} "
                f"({type(venv).__name__})"
            )
        super().__init__(venv)
        self._base: VecEnv = venv.unwrapped
        here = hasattr(self._base, "envs") or hasattr(self._base, "task")
        found = task_of(
            task,
            lambda: venv.get_attr("task", 0)[0] if here else None,
            "make them with task.make() or by a guerdon id; where they live in other "
            "processes pass task=...",
        )
        self._stream = RewardStream(program, found, venv.num_envs, discount)
        self._shape = (venv.num_envs, found.layout.width)
        self._actions: np.ndarray = np.zeros(venv.num_envs)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but SB3's list of the class's members, which cannot be copied."""
        return {k: v for k, v in self.__dict__.items() if k != "class_attributes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.class_attributes = dict(inspect.getmembers(type(self)))

    def reset(self) -> Any:
        """Start an episode everywhere."""
        obs = self.venv.reset()
        # A wrapper's own ``reset_infos`` is never filled: the innermost one is.
        self.reset_infos = list(self._base.reset_infos)
        self._stream.begin(obs, self._rows(self.reset_infos))
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Send the actions."""
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        """Designed rewards, ``(N,)`` float32, in the place of the environments'."""
        obs, rewards, dones, infos = self.venv.step_wait()
        rows = first = self._rows(infos)
        next_obs = obs
        terminated = truncated = self._stream.never
        flags = dones.tolist()
        lanes = [lane for lane, done in enumerate(flags) if done] if any(flags) else []
        if lanes:
            terminated, truncated = _split(dones, infos, lanes)
            final = [info.get("terminal_observation") for info in infos]
            next_obs = replace_rows(obs, final, lanes)
            first = self._first_rows(rows, lanes)
        designed = self._stream.step(
            self._actions, next_obs, rows, rewards, terminated, truncated
        )
        for info, reward in zip(infos, rewards.tolist(), strict=True):
            info["reward_env"] = reward
        if lanes:
            for lane, terms, total in self._stream.close_episodes(lanes):
                infos[lane]["episode_terms"] = terms
                infos[lane]["episode_reward"] = total
        self._stream.go_on(obs, first)
        return obs, designed.reward, dones, infos

    def _rows(self, infos: Any) -> Rows:
        """``(N, W)`` float32, new on every call so that nothing is shared."""
        try:
            joined = np.concatenate([info["features"] for info in infos])
        except KeyError:
            raise ValueError(
                "expected 'features' in the info of every environment; a wrapper "
                "between the task and SB3 dropped it"
            ) from None
        return joined.reshape(self._shape)

    def _first_rows(self, rows: Rows, lanes: list[int]) -> Rows:
        """Where the next step starts: ``reset_infos`` where an episode ended."""
        self.reset_infos = list(self._base.reset_infos)
        first = rows.copy()
        for lane in lanes:
            first[lane] = self.reset_infos[lane]["features"]
        return first


def _split(dones: Bools, infos: Any, lanes: list[int]) -> tuple[Bools, Bools]:
    """``terminated`` and ``truncated`` from SB3's merged flag."""
    truncated = np.zeros_like(dones)
    for lane in lanes:
        truncated[lane] = infos[lane].get("TimeLimit.truncated", False)
    return dones & ~truncated, truncated
