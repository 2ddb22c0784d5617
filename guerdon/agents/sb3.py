"""Training with Stable-Baselines3, from a job to its result."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from guerdon.agents.evaluate import evaluate, save_episodes
from guerdon.agents.policies import (
    TorchPolicy,
    frozen_policy,
    policy_arguments,
    save_policy,
)
from guerdon.agents.recipes import Recipe, recipe_for
from guerdon.agents.training import (
    CURVE_POINTS,
    Curve,
    Outcome,
    TrainingJob,
    TrainingResult,
    outcome_to_json,
)
from guerdon.agents.vector import (
    NonFinite,
    ObservationGuard,
    TaskVecEnv,
    finite_program,
)
from guerdon.envs.table import load_task
from guerdon.envs.task import Task
from guerdon.faults import blame, machine_fault
from guerdon.reward_design.adapters.sb3 import RewardVecEnv
from guerdon.reward_design.language import Rejected
from guerdon.reward_design.program import RewardProgram
from guerdon.reward_design.reference import reward_for
from guerdon.types import Failure

Progress = Callable[[float], None]
"""Told the finished share of a training, 0 to 1, a few times a second."""

PROGRESS_SECONDS = 0.25

NEVER = 2**62
"""A logging interval that no training reaches."""


class CurveRecorder(BaseCallback):
    """Collects the training curve from the ends of episodes.

    Args:
        steps: environment steps of the whole training.
        names: terms of the designed reward.
        span: environment steps in which every environment ends an episode at least
            once: the horizon times the number of environments.
        progress: told the finished share.
        should_stop: asked whether to end the training here.
    """

    def __init__(
        self,
        steps: int,
        names: tuple[str, ...],
        span: int,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self._steps = steps
        self._names = names
        # Failed episodes run to the horizon and all end together; a shorter span
        # would show the successes alone until they do.
        self._trailing = min(CURVE_POINTS, -(-span * CURVE_POINTS // steps))
        self._progress = progress
        self._should_stop = should_stop
        self._told = time.monotonic()
        self._counts = np.zeros(CURVE_POINTS, np.int64)
        self._sums = np.zeros((CURVE_POINTS, 4 + len(names)))
        self._lengths: np.ndarray | None = None

    def _on_step(self) -> bool:
        dones = self.locals["dones"]
        if self._lengths is None:
            self._lengths = np.zeros(len(dones), np.int64)
        self._lengths += 1
        for i in np.flatnonzero(dones):
            self._add(self.locals["infos"][i], int(self._lengths[i]))
            self._lengths[i] = 0
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS:
            return True
        self._told = now
        if self._progress is not None:
            self._progress(min(1.0, self.num_timesteps / self._steps))
        return self._should_stop is None or not self._should_stop()

    def _add(self, info: dict[str, Any], length: int) -> None:
        done = (self.num_timesteps - 1) * CURVE_POINTS // self._steps
        window = min(done, CURVE_POINTS - 1)
        if not math.isfinite(info["fitness"]):
            raise NonFinite(
                f"the fitness of an episode in training is {info['fitness']}; expected "
                "a finite number"
            )
        self._counts[window] += 1
        terms = info["episode_terms"]
        self._sums[window] += (
            info["fitness"],
            float(info["success"]),
            info["episode_reward"],
            length,
            *(terms[name] for name in self._names),
        )

    def curve(self) -> Curve:
        """Means over the episodes of the trailing span at the end of each window."""
        counts, sums = _trailing(self._counts, self._trailing), self._sums.T
        columns = [
            tuple(
                float(total / count) if count and place + 1 >= self._trailing else None
                for place, (total, count) in enumerate(
                    zip(_trailing(column, self._trailing), counts, strict=True)
                )
            )
            for column in sums
        ]
        fitness, success, proxy, length = columns[:4]
        ends = np.arange(1, CURVE_POINTS + 1) * self._steps // CURVE_POINTS
        return Curve(
            steps=tuple(int(end) for end in ends),
            episodes=tuple(int(count) for count in self._counts),
            fitness=fitness,
            success=success,
            proxy=proxy,
            length=length,
            terms=dict(zip(self._names, columns[4:], strict=True)),
        )

    def final_proxy(self) -> float | None:
        """Mean designed return of the episodes of the last fifth, or the last span."""
        last = slice(-max(CURVE_POINTS // 5, self._trailing), None)
        count = self._counts[last].sum()
        return float(self._sums[last, 2].sum() / count) if count else None


def _trailing(values: np.ndarray, width: int) -> np.ndarray:
    """Sums of the last ``width`` entries up to each place."""
    total = np.cumsum(values)
    before = np.concatenate([np.zeros(width, total.dtype), total[:-width]])
    sums: np.ndarray = total - before[: len(total)]
    return sums


def train(
    job: TrainingJob,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train an agent on a designed reward and evaluate it by the true score.

    The same job gives the same result on the same machine. The steps are rounded up to
    whole rollouts before anything else depends on them; the result says how many they
    were. The process keeps one torch thread, which networks of this size prefer.

    Args:
        job: what to train.
        folder: where weights and recorded episodes go; nothing is written if None.
        progress: told the finished share.
        should_stop: asked a few times a second; True ends the training there, and
            the agent is evaluated as it is.

    Returns:
        The result, or the failure of the candidate: a reward that does not compile, a
        reward or true score that is not finite, an environment that raises.

    Raises:
        OSError: for what the machine could not do, such as writing to a full disk; it
            is no candidate's failure.
    """
    torch.set_num_threads(1)
    try:
        task = load_task(job.task)
        recipe = recipe_for(task, job.algo)
        program = reward_for(task, job.reward, job.base)
        with _own_randomness():
            return _train(job, task, recipe, program, folder, progress, should_stop)
    except Rejected as error:
        return error.failure
    except NonFinite as error:
        return Failure("non_finite", str(error))
    except Exception as error:
        fault = machine_fault(error, folder)
        if fault is not None:
            raise fault from error
        return Failure("crashed", blame(error))


def run_job(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """``train`` for a worker process: JSON in, JSON out."""
    outcome = train(TrainingJob.from_json(payload), folder=folder, progress=progress)
    return outcome_to_json(outcome).encode()


def _train(
    job: TrainingJob,
    task: Task,
    recipe: Recipe,
    program: RewardProgram,
    folder: Path | None,
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> TrainingResult:
    wall, cpu = time.perf_counter(), time.process_time()
    venv = training_env(task, recipe, program)
    try:
        total = recipe.whole_steps(job.steps)
        span = task.horizon * recipe.n_envs
        recorder = CurveRecorder(total, program.names, span, progress, should_stop)
        model = make_model(recipe, venv, total, job.seed)
        # SB3's own logger would leave a folder in the temporary directory every time.
        model.set_logger(Logger(None, []))
        # With fewer, a rate that falls to zero would fall below it in the last rollout.
        model.learn(total, callback=recorder, log_interval=NEVER)
        normalised = venv if isinstance(venv, VecNormalize) else None
        policy = frozen_policy(model.policy, normalised)
        trained = time.perf_counter() - wall
    finally:
        venv.close()
    evaluation = evaluate(
        task,
        policy,
        episodes=job.eval_episodes,
        seed=job.eval_seed,
        deterministic=recipe.deterministic,
        record=min(job.record_episodes, job.eval_episodes) if folder else 0,
    )
    weights = episodes = None
    if folder is not None:
        weights = _save_weights(folder, policy, job, recipe)
        if evaluation.episodes:
            episodes = f"{job.key}.npz"
            save_episodes(folder / episodes, evaluation.episodes)
    return TrainingResult(
        job=job.key,
        fitness=evaluation.fitness,
        success=evaluation.success,
        length=evaluation.length,
        proxy=recorder.final_proxy(),
        curve=recorder.curve(),
        steps=model.num_timesteps,
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - wall,
        train_seconds=trained,
        weights=weights,
        episodes=episodes,
    )


def _save_weights(
    folder: Path, policy: TorchPolicy, job: TrainingJob, recipe: Recipe
) -> str:
    name = f"{job.key}.safetensors"
    save_policy(folder / name, policy, job, recipe)
    return name


def training_env(task: Task, recipe: Recipe, program: RewardProgram) -> VecEnv:
    """The task's environments, paid by the program, normalised by the recipe."""
    venv: VecEnv = TaskVecEnv(task, recipe)
    if np.issubdtype(venv.observation_space.dtype, np.floating):
        venv = ObservationGuard(venv)
    venv = RewardVecEnv(venv, finite_program(program), discount=recipe.discount)
    if recipe.normalize_reward or recipe.normalize_observation:
        venv = VecNormalize(
            venv,
            norm_obs=recipe.normalize_observation,
            norm_reward=recipe.normalize_reward,
            gamma=recipe.discount,
        )
    return venv


def make_model(recipe: Recipe, venv: VecEnv, steps: int, seed: int) -> BaseAlgorithm:
    """SB3's algorithm with the numbers of a recipe."""
    policy = policy_arguments(recipe)
    shared: dict[str, Any] = {
        "learning_rate": _schedule(recipe.learning_rate, recipe.linear_learning_rate),
        "batch_size": recipe.batch_size,
        "gamma": recipe.discount,
        "use_sde": recipe.use_sde,
        "sde_sample_freq": recipe.sde_sample_freq,
        "policy_kwargs": policy,
        "seed": seed,
        "device": "cpu",
    }
    if recipe.algo == "sac":
        return SAC(
            "MlpPolicy",
            venv,
            ent_coef="auto" if recipe.ent_coef is None else recipe.ent_coef,
            buffer_size=min(recipe.buffer_size, steps),
            learning_starts=recipe.learning_starts,
            train_freq=recipe.train_freq,
            gradient_steps=recipe.gradient_steps,
            tau=recipe.tau,
            **shared,
        )
    return PPO(
        "MlpPolicy",
        venv,
        ent_coef=recipe.ent_coef or 0.0,
        n_steps=recipe.n_steps,
        n_epochs=recipe.n_epochs,
        gae_lambda=recipe.gae_lambda,
        clip_range=_schedule(recipe.clip_range, recipe.linear_clip_range),
        vf_coef=recipe.vf_coef,
        max_grad_norm=recipe.max_grad_norm,
        **shared,
    )


def _schedule(start: float, linear: bool) -> float | Callable[[float], float]:
    """A constant, or SB3's function of the remaining share of the training."""
    return (lambda remaining: start * remaining) if linear else start


@contextmanager
def _own_randomness() -> Iterator[None]:
    """SB3 seeds the process's global generators; give them back as they were."""
    # ruff: noqa: NPY002 - the legacy generator is what SB3 seeds.
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
