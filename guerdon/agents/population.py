"""Trainings of many candidates as one population, from jobs to their results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from guerdon.agents.arrays import VectorArrays
from guerdon.agents.environments import NonFinite
from guerdon.agents.evaluate import Evaluation, save_episodes
from guerdon.agents.evaluate_rows import agents_of, evaluate_rows
from guerdon.agents.policy_files import in_words
from guerdon.agents.ppo import Population, PPOConfig, Update
from guerdon.agents.ppo_config import enough_memory
from guerdon.agents.recipes import Recipe, recipe_for
from guerdon.agents.row_files import save_row_policy
from guerdon.agents.row_rewards import ProgramRewards
from guerdon.agents.rows import load_rows, save_rows
from guerdon.agents.seconds import MEASURED
from guerdon.agents.training import (
    Leg,
    Outcome,
    TrainingJob,
    TrainingResult,
    outcome_to_json,
)
from guerdon.envs.arrays import ArrayEnv
from guerdon.envs.table import load_task
from guerdon.envs.task import Task
from guerdon.envs.tensors import AnyEnv
from guerdon.faults import blame, machine_fault
from guerdon.reward_design.language import Rejected
from guerdon.reward_design.reference import reward_for
from guerdon.types import Failure

Progress = Callable[[float], None]
"""Told the finished share."""

PROGRESS_SECONDS = 0.25

_LOG = logging.getLogger(__name__)


def row_file(job: TrainingJob, steps: int) -> str:
    """Name of the file in which a job's row is put down after ``steps``."""
    return f"{replace(job, steps=steps).key}.row"


def run_leg(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """``train_leg`` for a worker process: JSON in, a JSON list of outcomes out."""
    outcomes = train_leg(Leg.from_json(payload), folder=folder, progress=progress)
    return f"[{','.join(map(outcome_to_json, outcomes))}]".encode()


def train_leg(
    leg: Leg,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Train all jobs of a leg as rows of one population and evaluate each.

    A row learns the same whoever is beside it. Where an environment raises, the rows
    are trained apart from the one to which that happened. One whose file is missing or
    damaged is trained from the beginning: with the same result, where environments can
    be put down too, as the batched engines can; others begin new episodes with every
    leg. The process keeps one torch thread.

    Args:
        leg: what to train.
        folder: where rows are put down and weights and recorded episodes go; nothing
            is read or written if None.
        progress: told the finished share.
        should_stop: asked after every block; True ends the training there.

    Returns:
        For every job its result, or the failure of its candidate.

    Raises:
        OSError: for what the machine could not do.
        MemoryError: when the population does not fit.
    """
    torch.set_num_threads(1)
    try:
        return _Training(leg, folder, progress, should_stop).outcomes()
    except MemoryError:
        raise
    except Exception as error:
        fault = machine_fault(error, folder)
        if fault is not None:
            raise fault from error
        if len(leg.jobs) == 1:
            return [Failure("crashed", blame(error))]
    # All rows step in one call, so nobody knows whose actions it was: the halves are
    # trained apart, until only those crash that crash by themselves.
    outcomes: list[Outcome] = []
    for half in leg.halves():
        share = len(outcomes) / len(leg.jobs), len(half.jobs) / len(leg.jobs)
        told = progress and partial(_in_part, progress, *share)
        outcomes += train_leg(
            half, folder=folder, progress=told, should_stop=should_stop
        )
    return outcomes


def _in_part(progress: Progress, done: float, part: float, share: float) -> None:
    """Tell the progress of a part as one of the whole."""
    progress(done + part * share)


@overload
def arrays_for(task: Task, lanes: int) -> ArrayEnv: ...


@overload
def arrays_for(task: Task, lanes: int, device: str) -> AnyEnv: ...


def arrays_for(task: Task, lanes: int, device: str = "cpu") -> AnyEnv:
    """Environments of a task: the batched engine where there is one.

    Args:
        task: whose.
        lanes: how many.
        device: ``cpu``, or a GPU for an engine whose arrays are tensors there.

    Raises:
        guerdon.extras.MissingExtra: when what a GPU takes is not installed.
        RuntimeError: when there is no such GPU.
        ValueError: for a GPU and a task without the engine.
    """
    if device != "cpu":
        return task.engine_on(device).on_device(lanes, device)
    if task.engine is None:
        return VectorArrays(task, lanes)
    engine: ArrayEnv = task.engine(lanes)
    return engine


def config_for(recipe: Recipe, whole: int, device: str = "cpu") -> PPOConfig:
    """How the rows of a population learn by a recipe."""
    return PPOConfig.from_recipe(recipe, total_steps=whole, device=device)


class _Training:
    """One leg under way."""

    def __init__(
        self,
        leg: Leg,
        folder: Path | None,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.leg, self.folder = leg, folder
        self.progress, self.should_stop = progress, should_stop
        self.first = leg.jobs[0]
        self.task = load_task(self.first.task)
        recipe = recipe_for(self.task, self.first.algo)
        # A row explores with white noise, and its file must say so.
        self.recipe = replace(recipe, use_sde=False)
        self.start = recipe.whole_steps(leg.start)
        self.steps = recipe.whole_steps(self.first.steps)
        self.whole = recipe.whole_steps(self.first.whole or self.first.steps)
        self.device: dict[str, str] = {}
        """Where the population is, told only where it is not the CPU."""
        if self.first.device != "cpu":
            self.device["device"] = self.first.device
        self.config = config_for(self.recipe, self.whole, **self.device)
        self.told = time.monotonic()
        self.began = time.perf_counter(), time.process_time()
        self.finished, self.rows = 0, 1
        """Rows that have been trained, and all that are to be."""

    def outcomes(self) -> list[Outcome]:
        """One for each job."""
        found: dict[int, Outcome] = {}
        waiting: dict[bool, list[int]] = {True: [], False: []}
        for i, job in enumerate(self.leg.jobs):
            try:
                reward_for(self.task, job.reward, job.base)
            except Rejected as error:
                found[i] = error.failure
            except ValueError as error:  # a name that the task does not have
                found[i] = Failure("crashed", blame(error))
            else:
                waiting[self._put_down(job)].append(i)
        self.rows = max(1, sum(map(len, waiting.values())))
        while any(waiting.values()):
            resumed = bool(waiting[True])
            members, waiting[resumed] = waiting[resumed], []
            try:
                rewards, population = self._begun(members, resumed=resumed)
            except ValueError:
                if not resumed:
                    raise
                sound = [i for i in members if self._is_sound(i)]
                waiting[True] = sound if len(sound) < len(members) else []
                waiting[False] += [i for i in members if i not in waiting[True]]
                continue
            found |= self._train(members, rewards, population)
            self.finished += len(members)
        return [found[i] for i in range(len(self.leg.jobs))]

    def _is_sound(self, i: int) -> bool:
        """Whether the file of a row can be gone on from."""
        try:
            _, population = self._begun([i], resumed=True)
        except ValueError as error:
            _LOG.warning("%s; this row is trained from the beginning", error)
            return False
        population.env.close()
        return True

    def _put_down(self, job: TrainingJob) -> bool:
        """Whether the row of a job can be taken up again."""
        if self.folder is None or not self.leg.start:
            return False
        return (self.folder / row_file(job, self.leg.start)).is_file()

    def _begun(
        self, members: Sequence[int], *, resumed: bool
    ) -> tuple[ProgramRewards, Population]:
        """A population of some of the jobs, which the caller closes."""
        self.began = time.perf_counter(), time.process_time()
        jobs = [self.leg.jobs[i] for i in members]
        seeds = [job.seed for job in jobs]
        rewards = ProgramRewards(
            self.task, [job.reward for job in jobs], self.first.base, self.config.envs
        )
        lanes = len(jobs) * self.config.envs
        with enough_memory():
            env: AnyEnv = arrays_for(self.task, lanes, **self.device)
        try:
            if not resumed or self.folder is None:
                return rewards, Population(env, self.config, seeds, rewards=rewards)
            paths = [self.folder / row_file(job, self.leg.start) for job in jobs]
            expected = self.config, seeds, self.start
            return rewards, load_rows(paths, env, rewards=rewards, expected=expected)
        except BaseException:
            env.close()
            raise

    def _train(
        self, members: Sequence[int], rewards: ProgramRewards, population: Population
    ) -> Mapping[int, Outcome]:
        jobs = [self.leg.jobs[i] for i in members]
        wall, cpu = self.began
        try:
            left = self.steps - population.steps(0)
            population.learn(left, partial(self._watch, population.steps(0)))
            learned = time.perf_counter() - wall
            self._put_rows_down(population, jobs)
            judging = time.perf_counter()
            results = self._judged(population, jobs)
            spent = population.seconds | {"evaluation": time.perf_counter() - judging}
        finally:
            population.env.close()
        share = len(jobs)
        # All rows go through every part together, so each has an equal share of it.
        seconds = {
            "cpu_seconds": (time.process_time() - cpu) / share,
            "wall_seconds": (time.perf_counter() - wall) / share,
            "train_seconds": learned / share,
            "seconds": {part: max(0.0, spent[part]) / share for part in MEASURED},
        }
        return {
            i: self._outcome(population, r, jobs[r], rewards, results[r], seconds)
            for r, i in enumerate(members)
        }

    def _watch(self, start: int, population: Population, update: Update) -> bool:
        now = time.monotonic()
        if self.progress is not None and now - self.told > PROGRESS_SECONDS:
            self.told = now
            share = (population.steps(0) - start) / (self.steps - start)
            done = self.finished + share * len(population.rows)
            self.progress(min(1.0, done / self.rows))
        return self.should_stop is None or not self.should_stop()

    def _put_rows_down(
        self, population: Population, jobs: Sequence[TrainingJob]
    ) -> None:
        """Keep what another leg may go on with."""
        if self.folder is None or self.steps >= self.whole:
            return
        if population.steps(0) < self.steps:
            return  # It was stopped, and the file's name would not be true.
        save_rows(
            population,
            {
                r: self.folder / row_file(job, self.first.steps)
                for r, job in enumerate(jobs)
                if population.rows[r].failure is None
            },
        )

    def _judged(
        self, population: Population, jobs: Sequence[TrainingJob]
    ) -> list[Evaluation | NonFinite]:
        """The true score of every row, in fresh environments."""
        record = self.first.record_episodes if self.folder else 0
        return evaluate_rows(
            self.task,
            agents_of(population),
            arrays_for,
            episodes=self.first.eval_episodes,
            seed=self.first.eval_seed,
            deterministic=self.recipe.deterministic,
            record=record,
        )

    def _outcome(
        self,
        population: Population,
        r: int,
        job: TrainingJob,
        rewards: ProgramRewards,
        evaluation: Evaluation | NonFinite,
        seconds: Mapping[str, Any],
    ) -> Outcome:
        failure = population.rows[r].failure
        if failure is not None:
            return _blamed(failure, rewards.reasons[r])
        if isinstance(evaluation, NonFinite):
            return Failure("non_finite", str(evaluation))
        weights = episodes = None
        if self.folder is not None:
            if evaluation.episodes:
                episodes = f"{job.key}.npz"
                save_episodes(self.folder / episodes, evaluation.episodes)
            if self.steps >= self.whole:
                weights = f"{job.key}.safetensors"
                told = in_words(population.env.observation_space, self.task.action)
                path, policy = self.folder / weights, population.policy(r)
                save_row_policy(path, policy, job, self.recipe, told)
        steps = population.steps(r)
        return TrainingResult(
            job=job.key,
            fitness=evaluation.fitness,
            success=evaluation.success,
            length=evaluation.length,
            proxy=self._proxy(population, r),
            curve=population.curve(r),
            steps=steps,
            weights=weights,
            episodes=episodes,
            **seconds,
        )

    def _proxy(self, population: Population, r: int) -> float | None:
        """Mean designed return of the last fifth, or of the last span."""
        span = max(population.env.horizon * self.config.envs, population.steps(r) // 5)
        ended = population.log.of(population.rows[r].id)
        late = ended.step > population.steps(r) - span
        return float(np.mean(ended.proxy[late])) if late.any() else None


def _blamed(failure: Failure, term: str | None) -> Failure:
    """A failure with the name of the reward's term that is to blame, if one is."""
    if term is None or not failure.reason.startswith("a reward"):
        return failure
    reason = f"reward term {term!r} is not finite; expected a finite number"
    return Failure("non_finite", reason)
