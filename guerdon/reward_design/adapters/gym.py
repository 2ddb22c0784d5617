"""Reward programs on Gymnasium environments, one or many."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from guerdon.envs.task import Task
from guerdon.reward_design.adapters.stream import (
    Bools,
    RewardStream,
    Rows,
    replace_rows,
    task_of,
)
from guerdon.reward_design.program import RewardProgram
from guerdon.types import Tree


class RewardWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Pays what a program says in the place of the environment's reward.

    ``info["reward_env"]`` keeps the environment's own reward. The last ``info`` of an
    episode also has ``episode_terms`` (name -> sum) and ``episode_reward`` (the
    designed return).

    Args:
        env: an environment of a task, or wrappers around one.
        program: what to pay.
        discount: the agent's.

    Raises:
        ValueError: when ``env`` belongs to no task.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        program: RewardProgram,
        *,
        discount: float = 0.99,
    ) -> None:
        super().__init__(env)
        task = task_of(
            None,
            lambda: env.get_wrapper_attr("task"),
            "make the environment with task.make() or by a guerdon id, or make a task "
            "of it with guerdon.task_from_env",
        )
        self._stream = RewardStream(program, task, 1, discount)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._stream.begin(_batch_of_one(obs), _row(info))
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step with the designed reward."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        rows, after = _row(info), _batch_of_one(obs)
        ended = [0] if terminated or truncated else []
        designed = self._stream.step(
            np.array(action)[None],
            after,
            rows,
            np.array([reward], dtype=np.float32),
            np.array([terminated], dtype=np.bool_),
            np.array([truncated], dtype=np.bool_),
        )
        info["reward_env"] = float(reward)
        for _, terms, total in self._stream.close_episodes(ended):
            info["episode_terms"] = terms
            info["episode_reward"] = total
        self._stream.go_on(after, rows)
        return obs, float(designed.reward[0]), terminated, truncated, info


class VectorRewardWrapper(VectorWrapper):
    """Pays what a program says in a vector environment, whichever way it resets.

    Next-step autoreset: the step that only resets pays 0 and is not part of any
    episode. Same-step autoreset: features of the true successor come from
    ``final_info``. ``infos`` gets ``reward_env``, and where episodes end
    ``episode_terms`` (name -> ``(N,)``) and ``episode_reward`` (``(N,)``), each with
    Gymnasium's mask (``_episode_terms``, ...).

    Args:
        env: environments of one task.
        program: what to pay.
        discount: the agent's.
        task: asked of the environments when None.

    Raises:
        ValueError: when no task is found, or the environment does not reset by itself.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        program: RewardProgram,
        *,
        discount: float = 0.99,
        task: Task | None = None,
    ) -> None:
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            raise ValueError(
                "expected a vector environment with metadata['autoreset_mode'] "
                f"NEXT_STEP or SAME_STEP, got {mode}"
            )
        found = task_of(task, lambda: _task_inside(env), "pass task=...")
        self._same_step = mode == AutoresetMode.SAME_STEP
        self._copies = not getattr(env.unwrapped, "copy", True)
        self._stream = RewardStream(program, found, env.num_envs, discount)
        self._resetting = self._stream.never

    def reset(
        self,
        *,
        seed: int | list[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode everywhere, or where ``options["reset_mask"]`` says."""
        lanes = None if options is None else options.get("reset_mask")
        lanes = None if lanes is None else np.array(lanes, dtype=np.bool_)
        obs, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        kept = self._stream.never if lanes is None else ~lanes
        self._resetting = self._resetting & kept
        self._stream.begin(self._own(obs), _rows(infos), lanes)
        return obs, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step with designed rewards, ``(N,)`` float32."""
        chosen = np.array(actions)
        obs, reward, terminated, truncated, infos = self.env.step(actions)
        first, first_obs = _rows(infos), self._own(obs)
        rows, next_obs, mask = first, first_obs, None
        done: Bools = np.logical_or(terminated, truncated)
        ended = bool(done.any())
        if self._same_step and ended:
            last = np.asarray(infos["final_info"]["features"], dtype=np.float32)
            rows = np.where(done[:, None], last, first)
            lanes = np.flatnonzero(done).tolist()
            next_obs = replace_rows(first_obs, infos["final_obs"], lanes)
        elif not self._same_step and self._resetting.any():
            mask = ~self._resetting
        designed = self._stream.step(
            chosen,
            next_obs,
            rows,
            reward,
            np.array(terminated, dtype=np.bool_),
            np.array(truncated, dtype=np.bool_),
            mask,
        )
        infos["reward_env"] = np.array(reward)
        infos["_reward_env"] = ~self._stream.never if mask is None else mask.copy()
        if ended:
            self._close(infos, done)
        self._resetting = self._stream.never if self._same_step else done
        self._stream.go_on(first_obs, first)
        return obs, designed.reward, terminated, truncated, infos

    def _close(self, infos: dict[str, Any], done: Bools) -> None:
        """Write the sums of the episodes that ended."""
        names = self._stream.program.names
        sums = {name: np.zeros(len(done)) for name in names}
        totals = np.zeros(len(done))
        for lane, terms, total in self._stream.close_episodes(
            np.flatnonzero(done).tolist()
        ):
            totals[lane] = total
            for name, value in terms.items():
                sums[name][lane] = value
        infos["episode_terms"], infos["_episode_terms"] = sums, done.copy()
        infos["episode_reward"], infos["_episode_reward"] = totals, done.copy()

    def _own(self, obs: Tree) -> Tree:
        """Observations that the environment will not overwrite."""
        return replace_rows(obs, [], []) if self._copies else obs


def _task_inside(env: VectorEnv[Any, Any, Any]) -> Any:
    """The task that a vector environment names, without asking other processes."""
    inside: Any = env.unwrapped
    if hasattr(inside, "task"):
        return inside.task
    if hasattr(inside, "envs"):
        return inside.get_attr("task")[0]
    # Tasks hold functions, which cannot be sent from a worker: build one here.
    sample = inside.env_fns[0]()
    try:
        return sample.get_wrapper_attr("task")
    finally:
        sample.close()


def _row(info: dict[str, Any]) -> Rows:
    """``(1, W)`` float32, owned by us."""
    return np.array(info["features"], dtype=np.float32)[None]


def _rows(infos: dict[str, Any]) -> Rows:
    """``(N, W)`` float32, owned by us."""
    return np.array(infos["features"], dtype=np.float32)


def _batch_of_one(obs: Tree) -> Tree:
    """A copy of an observation with a leading axis of 1."""
    if isinstance(obs, dict):
        return {key: _batch_of_one(part) for key, part in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_batch_of_one(part) for part in obs)
    return np.array(obs)[None]
