"""Training with Stable-Baselines3, from a job to its result."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common import buffers
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from guerdon.agents.curve import CurveRecorder, Progress
from guerdon.agents.evaluate import evaluate, save_episodes
from guerdon.agents.policies import (
    TorchPolicy,
    frozen_policy,
    policy_arguments,
    save_policy,
)
from guerdon.agents.recipes import Recipe, recipe_for
from guerdon.agents.training import (
    Curve,
    Outcome,
    TrainingJob,
    TrainingResult,
    outcome_to_json,
)
from guerdon.agents.vector import (
    NonFinite,
    ObservationGuard,
    finite_program,
    make_vec_env,
)
from guerdon.envs.table import load_task
from guerdon.envs.task import Task
from guerdon.faults import blame, machine_fault
from guerdon.reward_design.adapters.sb3 import RewardVecEnv
from guerdon.reward_design.language import Rejected
from guerdon.reward_design.program import RewardProgram
from guerdon.reward_design.reference import reward_for
from guerdon.types import Failure

NEVER = 2**62
"""A logging interval that no training reaches."""


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
        recipe = recipe_for(task, job.algo).without_memory()
        program = reward_for(task, job.reward, job.base)
        with own_randomness():
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


@dataclass(frozen=True, slots=True)
class Fitted:
    """An agent that has learned, and what was seen on the way."""

    policy: TorchPolicy
    curve: Curve
    proxy: float | None
    """Mean designed return of the episodes in the last fifth of the training."""
    steps: int
    seconds: float


def fit(
    job: TrainingJob,
    task: Task,
    recipe: Recipe,
    program: RewardProgram,
    base: VecEnv,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Fitted:
    """Let an agent learn from a designed reward; ``base`` is closed at the end.

    Args:
        job: how long, from which seed.
        task: its horizon says over which span the curve averages.
        recipe: how.
        program: what to pay.
        base: the task's environments, from ``make_vec_env``.
        progress: told the finished share.
        should_stop: see ``train``.

    Raises:
        NonFinite: for an observation, a reward or a true score that is not finite.
    """
    began = time.perf_counter()
    try:
        venv = training_env(base, recipe, program)
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
    finally:
        base.close()
    return Fitted(
        policy,
        recorder.curve(),
        recorder.final_proxy(),
        model.num_timesteps,
        time.perf_counter() - began,
    )


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
    base = make_vec_env(task, recipe)
    fitted = fit(job, task, recipe, program, base, progress, should_stop)
    return judge(job, task, recipe, fitted, folder, wall=wall, cpu=cpu)


def judge(
    job: TrainingJob,
    task: Task,
    recipe: Recipe,
    fitted: Fitted,
    folder: Path | None,
    *,
    wall: float,
    cpu: float,
) -> TrainingResult:
    """The true score of an agent, in fresh environments, and its files.

    Args:
        job: says how many episodes, from which seed.
        task: makes the environments.
        recipe: says whether the agent plays its mode.
        fitted: the agent.
        folder: where weights and recorded episodes go; nothing is written if None.
        wall: clock (``perf_counter``) at which the training began.
        cpu: the same of ``process_time``.

    Raises:
        NonFinite: for a true score that is not finite.
        OSError: when a file cannot be written.
    """
    policy = fitted.policy
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
        proxy=fitted.proxy,
        curve=fitted.curve,
        steps=fitted.steps,
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - wall,
        train_seconds=fitted.seconds,
        weights=weights,
        episodes=episodes,
    )


def _save_weights(
    folder: Path, policy: TorchPolicy, job: TrainingJob, recipe: Recipe
) -> str:
    name = f"{job.key}.safetensors"
    save_policy(folder / name, policy, job, recipe)
    return name


def training_env(base: VecEnv, recipe: Recipe, program: RewardProgram) -> VecEnv:
    """A task's environments, paid by the program, normalised by the recipe."""
    venv = base
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
        with _memory_unasked():
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
def _memory_unasked() -> Iterator[None]:
    """Keep SB3's replay buffer from asking the system for its free memory.

    It would only warn, and the jail does not answer such questions.
    """
    module: Any = buffers
    asks = module.psutil
    module.psutil = None
    try:
        yield
    finally:
        module.psutil = asks


@contextmanager
def own_randomness() -> Iterator[None]:
    """SB3 seeds the process's global generators; give them back as they were."""
    # ruff: noqa: NPY002 - the legacy generator is what SB3 seeds.
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
