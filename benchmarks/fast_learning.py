"""Whether our population PPO learns as much as Stable-Baselines3's.

Claim: with the same hyper-parameters, steps and reward (the environment's own), the
interquartile mean of our returns over 10 seeds is not lower than that of SB3's by more
than a margin. The margin was set before anything was measured: a tenth of the span
between random play and SB3's own interquartile mean. A task is

- ``equal or better`` when the 95 % interval of the difference, a bootstrap over seeds,
  lies above minus the margin;
- ``worse`` when it lies below it;
- ``undecided`` when the margin is inside: more seeds are needed (``--seeds``), and all
  that are there count.

Both sides are judged by the same function on the same 32 episodes; a score is the mean
return of the agent as it is at the end. DoorKey is our engine for us and Farama's
MiniGrid for SB3; the other environments are the same for both. All returns are kept in
``fast_learning.csv``, and a cut run goes on where it was. Ours learns all seeds of a
task as rows of one population, since a row learns the same alone.

Reference: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the
statistical precipice", NeurIPS, for the interquartile mean.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch
from scipy import stats

from benchmarks.harness import keep, parsed
from benchmarks.records import Records
from guerdon.agents.evaluate import Policy, evaluate
from guerdon.agents.population import arrays_for
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.recipes import Recipe, recipe_for
from guerdon.agents.row_rewards import ProgramRewards
from guerdon.agents.sb3 import fit
from guerdon.agents.training import EVALUATION_SEED, TrainingJob
from guerdon.agents.vector import TaskVecEnv
from guerdon.envs import Task, load_task
from guerdon.reward_design.reference import reward_for

MARGIN = 0.1
"""Of the span between random play and SB3."""

COLUMNS = (
    *("task", "asked_steps", "side", "seed"),
    *("steps", "return", "fitness", "success", "seconds"),
)
"""Of the file; the first four say which training it is."""


class Case(NamedTuple):
    """One task."""

    steps: int
    changes: dict[str, Any]
    """Of the task's recipe, for both sides."""
    why: str


CASES = {
    "guerdon/DoorKey-6x6-v0": Case(300_000, {}, "the task's recipe and budget"),
    "guerdon/CartPole-v1": Case(100_000, {}, "the task's recipe and budget"),
    "guerdon/Pendulum-v1": Case(
        100_000,
        {"use_sde": False, "sde_sample_freq": -1},
        "the task's recipe and budget; white noise, since ours has no other",
    ),
    "guerdon/Reacher-v5": Case(
        200_000, {}, "the task's recipe, a fifth of the budget: it learns early"
    ),
    "guerdon/HalfCheetah-v5": Case(
        300_000,
        {
            "n_envs": 8,
            "n_steps": 256,
            "batch_size": 64,
            "n_epochs": 10,
            "learning_rate": 3e-4,
            "discount": 0.99,
            "gae_lambda": 0.95,
            "ent_coef": 0.0,
            "clip_range": 0.2,
            "max_grad_norm": 0.5,
            "vf_coef": 0.5,
            "log_std_init": None,
            "ortho_init": True,
            "activation": "tanh",
            "net_arch": (64, 64),
        },
        "SB3's defaults with 8 environments and normalisation: the zoo's own numbers "
        "learn little before a million steps",
    ),
}


def recipe_of(task: Task, case: Case) -> Recipe:
    """The numbers of both sides."""
    return replace(recipe_for(task, "ppo"), **case.changes)


def own_reward(task: Task) -> str:
    """Name of the environment's own reward."""
    return next(name for name, r in task.rewards.items() if r.source is None)


def judged(task: Task, policy: Policy, recipe: Recipe, episodes: int) -> dict[str, Any]:
    """Mean true return, fitness and success."""
    found = evaluate(
        task,
        policy,
        episodes=episodes,
        seed=EVALUATION_SEED,
        deterministic=recipe.deterministic,
        record=episodes,
    )
    returns = [float(np.sum(episode.reward)) for episode in found.episodes]
    return {
        "return": float(np.mean(returns)),
        "fitness": found.mean_fitness,
        "success": found.success_rate,
    }


def learn_ours(
    task: Task, case: Case, seeds: list[int], steps: int, episodes: int
) -> list[dict[str, Any]]:
    """All seeds as rows of one population."""
    recipe = recipe_of(task, case)
    total = recipe.whole_steps(steps)
    config = PPOConfig.from_recipe(recipe, total_steps=total)
    env = arrays_for(task, len(seeds) * config.envs)
    names = [own_reward(task)] * len(seeds)
    rewards = ProgramRewards(task, names, "none", config.envs)
    population = Population(env, config, seeds, rewards=rewards)
    started = time.perf_counter()
    population.learn(total)
    seconds = (time.perf_counter() - started) / len(seeds)
    env.close()
    for row in population.rows:
        assert row.failure is None, row.failure
    # The judge plays MiniGrid itself, for both sides.
    plain = replace(task, engine=None)
    return [
        judged(plain, population.policy(r), recipe, episodes)
        | {"steps": population.steps(r), "seconds": seconds}
        for r in range(len(seeds))
    ]


def learn_sb3(
    task: Task, case: Case, seed: int, steps: int, episodes: int
) -> dict[str, Any]:
    """One agent of SB3."""
    recipe, plain = recipe_of(task, case), replace(task, engine=None)
    name = own_reward(task)
    job = TrainingJob(task.id, name, steps, seed, base="none")
    base = TaskVecEnv(plain, recipe)
    fitted = fit(job, plain, recipe, reward_for(plain, name, "none"), base)
    found = judged(plain, fitted.policy, recipe, episodes)
    return found | {"steps": fitted.steps, "seconds": fitted.seconds}


def random_return(task: Task, episodes: int) -> float:
    """Mean return of random play."""
    env = task.make()
    env.action_space.seed(0)
    returns = []
    for episode in range(episodes):
        env.reset(seed=EVALUATION_SEED + episode)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return float(np.mean(returns))


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean over the last axis."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))


def compared(
    ours: np.ndarray, theirs: np.ndarray, random: float, draws: int = 10_000
) -> dict[str, Any]:
    """The verdict on two samples of returns, ``(S,)`` each."""
    rng = np.random.default_rng(0)
    a, b = (rng.choice(values, (draws, len(values))) for values in (ours, theirs))
    low, high = np.percentile(iqm(a) - iqm(b), [2.5, 97.5])
    margin = MARGIN * abs(float(iqm(theirs)) - random)
    verdict = "undecided"
    if low > -margin:
        verdict = "equal or better"
    elif high < -margin:
        verdict = "worse"
    return {
        "ours, iqm": float(iqm(ours)),
        "sb3, iqm": float(iqm(theirs)),
        "random": random,
        "difference": float(iqm(ours) - iqm(theirs)),
        "low": float(low),
        "high": float(high),
        "margin": margin,
        "verdict": verdict,
        "seeds": [len(ours), len(theirs)],
    }


def learn_missing(
    name: str, records: Records, seeds: int, steps: int, episodes: int
) -> None:
    """Train what is not in the file, ours first, and write it down as it comes."""
    task, case = load_task(name), CASES[name]
    who = {"task": name, "asked_steps": steps}
    missing = [s for s in range(seeds) if not records.has(name, steps, "ours", s)]
    if missing:
        found = learn_ours(task, case, missing, steps, episodes)
        for seed, row in zip(missing, found, strict=True):
            records.add(who | {"side": "ours", "seed": seed} | row)
        print(f"{name}, ours: {[row['return'] for row in found]}", flush=True)
    for seed in range(seeds):
        if not records.has(name, steps, "sb3", seed):
            row = learn_sb3(task, case, seed, steps, episodes)
            records.add(who | {"side": "sb3", "seed": seed} | row)
            print(f"{name}, sb3, seed {seed}: {row['return']}", flush=True)


def main() -> None:
    """Train what is missing, compare and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", nargs="+", default=list(CASES))
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--episodes", type=int, default=32)
    options.add_argument("--steps", type=int, help="other than each task's own")
    given = parsed(options)
    if given.quick:
        given.seeds, given.episodes, given.steps = 2, 2, 4096
        given.tasks = ["guerdon/DoorKey-6x6-v0", "guerdon/Pendulum-v1"]
    torch.set_num_threads(1)
    records = Records(given.out / "fast_learning.csv", COLUMNS, key=4)
    for name in given.tasks:
        steps = given.steps or CASES[name].steps
        learn_missing(name, records, given.seeds, steps, given.episodes)
    rows: dict[str, Any] = {}
    for name, case in CASES.items():
        steps = given.steps or case.steps
        ours, theirs = (
            np.array([float(row["return"]) for row in records.of(name, steps, side)])
            for side in ("ours", "sb3")
        )
        if len(ours) and len(theirs):  # also what an earlier call trained
            row = compared(ours, theirs, random_return(load_task(name), given.episodes))
            rows[name] = row | {"steps": steps, "numbers": case.why}
    command = "python -m benchmarks.fast_learning"
    keep("fast_learning", command, rows, given.out, timed=False)


if __name__ == "__main__":
    main()
