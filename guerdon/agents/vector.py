"""The vector environment that an agent is trained in."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from guerdon.agents.environments import NonFinite, make_env
from guerdon.agents.recipes import Recipe
from guerdon.envs.task import Task
from guerdon.reward_design.program import Designed, RewardProgram, State
from guerdon.types import Batch

__all__ = ["NonFinite", "ObservationGuard", "TaskVecEnv", "finite_program"]


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
