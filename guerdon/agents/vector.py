"""The vector environments that an agent of SB3 is trained in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from guerdon.agents.environments import NonFinite, lane_step, make_env
from guerdon.agents.recipes import Recipe
from guerdon.envs.task import Task
from guerdon.reward_design.program import Designed, RewardProgram, State
from guerdon.types import Batch

__all__ = [
    "EngineVecEnv",
    "NonFinite",
    "ObservationGuard",
    "TaskVecEnv",
    "finite_program",
    "make_vec_env",
]


def make_vec_env(task: Task, recipe: Recipe) -> VecEnv:
    """A task's environments for SB3, on its batched engine where that is installed."""
    return (
        TaskVecEnv(task, recipe) if task.fast() is None else EngineVecEnv(task, recipe)
    )


class TaskVecEnv(DummyVecEnv):
    """Environments of a task that step together in this process.

    Behaves as SB3's ``DummyVecEnv``, whose deep copies of every ``info`` cost more
    than a step of a small environment: tasks return a fresh ``info`` each step, so
    there is nothing to protect.

    Args:
        task: makes the environments.
        recipe: says how many.
    """

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__([lambda: make_env(task) for _ in range(recipe.n_envs)])
        self._rows: np.ndarray = self.buf_obs[None]  # type: ignore[index]

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments; the ones that end are reset in the same step."""
        infos: list[dict[str, Any]] = []
        rows = self._rows
        for i, env in enumerate(self.envs):
            obs, reward, terminated, truncated, info = env.step(self.actions[i])
            done = terminated or truncated
            info["TimeLimit.truncated"] = truncated and not terminated
            if done:
                info["terminal_observation"] = obs
                obs, self.reset_infos[i] = env.reset()
            rows[i] = obs
            self.buf_rews[i] = reward
            self.buf_dones[i] = done
            infos.append(info)
        return rows.copy(), self.buf_rews.copy(), self.buf_dones.copy(), infos


class EngineVecEnv(VecEnv):
    """Lanes of a task's batched engine, as SB3 wants its environments.

    Args:
        task: has an engine, and it is installed.
        recipe: says how many lanes.
    """

    def __init__(self, task: Task, recipe: Recipe) -> None:
        mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.task = task
        self._env = task.make_vec(recipe.n_envs, vector_kwargs=mode)
        self._actions = np.zeros(recipe.n_envs, np.int64)
        self.render_mode = None
        super().__init__(
            recipe.n_envs,
            self._env.single_observation_space,
            self._env.single_action_space,
        )

    def reset(self) -> VecEnvObs:
        """Start an episode in every lane, with the seeds that ``seed`` has set."""
        seeds: Any = self._seeds
        obs, infos = self._env.reset(seed=seeds)
        self.reset_infos = [{"features": row} for row in infos["features"]]
        self._reset_seeds()
        self._reset_options()
        return np.asarray(obs)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all lanes; episodes that end begin again in the same step."""
        step = self._env.step(self._actions)
        obs, rewards, terminated, truncated, now = step
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [
            {"features": row, "TimeLimit.truncated": False} for row in now["features"]
        ]
        for lane in np.flatnonzero(dones).tolist():
            self.reset_infos[lane] = {"features": infos[lane]["features"]}
            last = lane_step(lane, *step)
            infos[lane] = {
                **last.info,
                "TimeLimit.truncated": last.truncated and not last.terminated,
                "terminal_observation": last.obs,
            }
        return obs, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Give up the engine."""
        self._env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of all lanes, which they share."""
        return [getattr(self, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: lanes have nothing of their own."""
        raise AttributeError(f"lanes of an engine have no {attr_name!r} to set")

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Refused: lanes have nothing of their own."""
        raise AttributeError(f"lanes of an engine have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is."""
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))


def finite_program(program: RewardProgram) -> RewardProgram:
    """The same program, which raises instead of paying what is not finite.

    It is checked before anything normalises the reward: running statistics that
    have seen one NaN stay NaN and hide where it came from.

    Raises:
        NonFinite: on ``apply``; names the first term that is to blame.
    """

    def apply(state: State, batch: Batch) -> tuple[Designed, State]:
        designed, state = program.apply(state, batch)
        rewards = np.asarray(designed.reward)
        if not np.isfinite(rewards).all():
            lane = int(np.flatnonzero(~np.isfinite(rewards))[0])
            terms = np.asarray(designed.terms)[lane]
            bad = np.flatnonzero(~np.isfinite(terms))
            if len(bad):
                raise NonFinite(
                    f"reward term {program.names[bad[0]]!r} is {terms[bad[0]]}; "
                    "expected a finite number"
                )
            raise NonFinite(
                f"the reward after its transforms is {rewards[lane]} while all of its "
                "terms are finite"
            )
        return designed, state

    return program._replace(apply=apply)


class ObservationGuard(VecEnvWrapper):
    """Stops a training at the first observation that is not finite."""

    def reset(self) -> VecEnvObs:
        """Reset all environments and check their observations."""
        observations = self.venv.reset()
        _check_observations(observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments and check their observations.

        Raises:
            NonFinite: names the place in the observation.
        """
        observations, rewards, dones, infos = self.venv.step_wait()
        _check_observations(observations)
        return observations, rewards, dones, infos


def _check_observations(observations: VecEnvObs) -> None:
    values = np.asarray(observations)
    if not np.isfinite(values).all():
        column = np.argwhere(~np.isfinite(values))[0][1:].tolist()
        raise NonFinite(
            f"the environment's observation is not finite at index {column}"
        )
