"""Population PPO beside Stable-Baselines3, and beside itself one candidate at a time.

Claims: with the same hyper-parameters and one agent, ours on the engine takes at least
3 times the steps a second of SB3's PPO on MiniGrid (``rival.py``); SB3 on our engine
has a column of its own. 16 candidates as one population take a third of the time of 16
solo runs of the same trainer at minibatches of 64; at 1024 the gain is gone, and that
row is published too. Candidates 17 to 64 cost at most .45 of the first one each. Where
physics is the cost (Reacher-v5, the same environments and the task's recipe on both
sides), less is won: those rows stand in a file of their own, ``fast_ppo_mujoco.json``.
The minibatch of MiniGrid's recipe has another, ``fast_ppo_recipe.json``.

Counted is learning alone: no imports, no building, no evaluation; both sides keep the
memory that they free, as our worker processes do. Before the clock starts: both agents
have as many weights and take as many gradient steps; a row of the population has the
same weights after a block as its solo run, bit for bit. That they learn alike is
measured by ``fast_learning.py``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from benchmarks.corpus import chosen
from benchmarks.fast_learning import own_reward
from benchmarks.harness import keep, median_row, parsed, ratio_row, turns
from benchmarks.rival import minigrid_model
from guerdon.agents.allocator import keep_freed_memory
from guerdon.agents.population import arrays_for
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.recipes import MINIGRID, Recipe, recipe_for
from guerdon.agents.row_rewards import ProgramRewards
from guerdon.agents.sb3 import make_model, training_env
from guerdon.agents.vector import make_vec_env
from guerdon.envs import load_task
from guerdon.reward_design.reference import reward_for

TASK = "guerdon/DoorKey-8x8-v0"
LEVEL = "MiniGrid-DoorKey-8x8-v0"
CANDIDATES = "guerdon/DoorKey-6x6-v0"
"""Task of the candidates of a population: those of the frozen corpus."""

RECIPES = {
    "our recipe (64 x 64, minibatch 512)": MINIGRID,
    "16 x 128, minibatch 256": replace(
        MINIGRID, n_envs=16, n_steps=128, batch_size=256, learning_rate=7e-4
    ),
    "8 x 128, minibatch 64": replace(
        MINIGRID, n_envs=8, n_steps=128, batch_size=64, learning_rate=3e-4
    ),
}
"""The same numbers for both; the last one has SB3's default minibatch."""

POPULATION = PPOConfig(
    envs=16, steps=128, epochs=4, encoder="one_hot", learning_rate=1e-3, ent_coef=0.01
)
"""Of populations and solo runs; the minibatch is told with each row."""

SIZES = (1, 4, 16, 64)

MUJOCO = "guerdon/Reacher-v5"
MUJOCO_PAIRS = 5
PARTS = ("main", "recipe", "mujoco")
"""What is measured, each into a file of its own."""


def one_agent(recipe: Recipe) -> Population:
    """Ours on the engine, paid by MiniGrid's own reward through the block path."""
    task = load_task(TASK)
    config = PPOConfig.from_recipe(recipe)
    rewards = ProgramRewards(task, ["sparse"], "none", config.envs)
    return Population(arrays_for(task, config.envs), config, [0], rewards=rewards)


def sb3_on_engine(recipe: Recipe, steps: int) -> BaseAlgorithm:
    """SB3 as ``guerdon train`` runs it."""
    task = load_task(TASK)
    venv = training_env(make_vec_env(task, recipe), recipe, reward_for(task, "sparse"))
    return make_model(recipe, venv, steps, 0)


def sb3_seconds(
    make: Callable[[], BaseAlgorithm], steps: int, threads: int = 1
) -> Callable[[], float]:
    """Seconds in which a fresh agent of SB3 learns."""

    def run() -> float:
        model = make()
        torch.set_num_threads(threads)
        started = time.perf_counter()
        model.learn(steps)
        seconds = time.perf_counter() - started
        torch.set_num_threads(1)
        model.get_env().close()
        return seconds

    return run


def check_alike(recipe: Recipe) -> dict[str, int]:
    """Both have the same weights to learn and take as many gradient steps."""
    ours = one_agent(recipe)
    block = recipe.n_envs * recipe.n_steps
    return learnt_alike(ours, minigrid_model(LEVEL, recipe, block, 0))


def learnt_alike(ours: Population, theirs: BaseAlgorithm) -> dict[str, int]:
    """Compare both, of which each then has learned a block."""
    block, minibatch = ours.config.block, ours.config.minibatch
    weights = sum(value[0].numel() for value in ours.weights.values())
    assert weights == sum(p.numel() for p in theirs.policy.parameters())
    ours.collect()
    taken = int(ours.update().gradient_steps[0])
    theirs.learn(block)
    assert theirs.num_timesteps == ours.steps(0) == block
    assert taken == theirs._n_updates * block // minibatch
    return {"weights": weights, "gradient steps a block": taken}


def one_agent_rows(steps: int, pairs: int, only: int | None) -> dict[str, Any]:
    """Ours beside SB3, on MiniGrid and on our engine."""
    rows: dict[str, Any] = {}
    for name, recipe in list(RECIPES.items())[:only]:
        total = recipe.whole_steps(steps)
        found = turns(
            {
                "ours": lambda r=recipe, n=total: _learning([one_agent(r)], n),
                "sb3": sb3_seconds(
                    lambda r=recipe, n=total: minigrid_model(LEVEL, r, n, 0), total
                ),
                "sb3 with two": sb3_seconds(
                    lambda r=recipe, n=total: minigrid_model(LEVEL, r, n, 0), total, 2
                ),
                "engine": sb3_seconds(
                    lambda r=recipe, n=total: sb3_on_engine(r, n), total
                ),
            },
            pairs,
        )
        for key, what in (
            ("sb3", "on MiniGrid"),
            ("sb3 with two", "on MiniGrid with two torch threads"),
            ("engine", "on our engine"),
        ):
            row = ratio_row(found["ours"], found[key])
            row["ours, steps/s"] = total / row["first_seconds"]
            row["theirs, steps/s"] = total / row["second_seconds"]
            rows[f"K = 1, {name}: SB3 {what} / ours"] = row | check_alike(recipe)
    return rows


def _learning(populations: Sequence[Population], steps: int) -> float:
    """Seconds in which they learn, one after the other."""
    started = time.perf_counter()
    for population in populations:
        population.learn(steps)
    seconds = time.perf_counter() - started
    for population in populations:
        population.env.close()
    return seconds


def population(rewards: Sequence[str], config: PPOConfig) -> Population:
    """Candidates under one seed."""
    task = load_task(CANDIDATES)
    lanes = len(rewards) * config.envs
    paid = ProgramRewards(task, rewards, "sparse", config.envs)
    seeds = [0] * len(rewards)
    return Population(arrays_for(task, lanes), config, seeds, rewards=paid)


def check_rows(rewards: Sequence[str], config: PPOConfig) -> None:
    """A row is its solo run."""
    together = population(rewards, config)
    together.learn(config.block)
    for r, reward in enumerate(rewards):
        alone = population([reward], config)
        alone.learn(config.block)
        for name, values in alone.weights.items():
            assert torch.equal(values[0], together.weights[name][r]), (r, name)


def growth_rows(
    minibatch: int, sizes: Sequence[int], blocks: int, pairs: int
) -> dict[str, Any]:
    """Populations of all sizes beside solo runs, on one core."""
    config = replace(POPULATION, minibatch=minibatch)
    steps, rewards = blocks * config.block, candidates(max(sizes))
    check_rows(rewards[:3], config)
    many = 16 if 16 in sizes else max(sizes)

    def together(k: int) -> Callable[[], float]:
        return lambda: _learning([population(rewards[:k], config)], steps)

    def alone() -> float:
        return _learning([population([one], config) for one in rewards[:many]], steps)

    found = turns({"alone": alone, **{str(k): together(k) for k in sizes}}, pairs)
    row = ratio_row(found[str(many)], found["alone"])
    rows: dict[str, Any] = {f"K = {many}, {minibatch=}: solo / population": row}
    first, last = found["1"], found[str(max(sizes))]
    beyond = (last - found[str(many)]) / max(1, max(sizes) - many) / first
    rows[f"{minibatch=}: candidate {many + 1} to {max(sizes)} / one alone"] = {
        **median_row(beyond, "ratio"),
        "steps/s of all": {
            str(k): k * steps / float(np.median(found[str(k)])) for k in sizes
        },
    }
    return rows


def candidates(count: int) -> list[str]:
    """Rewards of the corpus, of all kinds."""
    return [entry.source for entry in chosen(CANDIDATES, count)]


def work(rewards: Sequence[str], minibatch: int, steps: int) -> None:
    """What a worker process does."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config = replace(POPULATION, minibatch=minibatch)
    _learning([population(rewards, config)], steps)


def two_core_row(minibatch: int, blocks: int, pairs: int, many: int) -> dict[str, Any]:
    """The same with both cores for each side: two halves, or solo runs two at a time.

    Building the populations is inside here.
    """
    steps, rewards = blocks * POPULATION.block, candidates(many)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["guerdon.agents.population"])
    with ProcessPoolExecutor(2, mp_context=context) as pool:

        def spread(groups: Sequence[Sequence[str]]) -> None:
            jobs = [pool.submit(work, group, minibatch, steps) for group in groups]
            for job in jobs:
                job.result()

        halves = [rewards[: many // 2], rewards[many // 2 :]]
        sides = {
            "population": lambda: spread(halves),
            "alone": lambda: spread([[one] for one in rewards]),
        }
        found = turns(sides, pairs)
    return ratio_row(found["population"], found["alone"])


def split(minibatch: int, blocks: int, many: int) -> dict[str, float]:
    """Shares of a population's time."""
    config = replace(POPULATION, minibatch=minibatch)
    one = population(candidates(many), config)
    one.learn(config.block)
    before = dict(one.seconds)
    one.learn(blocks * config.block)
    spent = {name: one.seconds[name] - before[name] for name in before}
    return {name: value / sum(spent.values()) for name, value in spent.items()}


def physics(seeds: Sequence[int]) -> Population:
    """Ours on MuJoCo, paid by the environment's own reward, a row a seed."""
    task = load_task(MUJOCO)
    config = PPOConfig.from_recipe(recipe_for(task, "ppo"))
    names = [own_reward(task)] * len(seeds)
    rewards = ProgramRewards(task, names, "none", config.envs)
    env = arrays_for(task, len(seeds) * config.envs)
    return Population(env, config, seeds, rewards=rewards)


def sb3_physics(steps: int) -> BaseAlgorithm:
    """SB3 on the same environments, with the same numbers."""
    task = load_task(MUJOCO)
    recipe = recipe_for(task, "ppo")
    program = reward_for(task, own_reward(task), "none")
    venv = training_env(make_vec_env(task, recipe), recipe, program)
    return make_model(recipe, venv, steps, 0)


def check_physics() -> dict[str, int]:
    """Both sides have as many weights and take as many gradient steps."""
    ours = physics([0])
    block = ours.config.block
    theirs = sb3_physics(block)
    found = learnt_alike(ours, theirs)
    ours.env.close()
    theirs.get_env().close()
    return found


def mujoco_rows(blocks: int, pairs: int, many: int) -> dict[str, Any]:
    """Ours beside SB3, and a population beside its rows alone, where physics costs."""
    alike = check_physics()
    steps = blocks * PPOConfig.from_recipe(recipe_for(load_task(MUJOCO), "ppo")).block
    one = turns(
        {
            "ours": lambda: _learning([physics([0])], steps),
            "sb3": sb3_seconds(lambda: sb3_physics(steps), steps),
        },
        pairs,
    )
    row = ratio_row(one["ours"], one["sb3"])
    row["ours, steps/s"] = steps / row["first_seconds"]
    row["theirs, steps/s"] = steps / row["second_seconds"]
    seeds = range(many)
    all_of_them = turns(
        {
            "together": lambda: _learning([physics(list(seeds))], steps),
            "alone": lambda: _learning([physics([seed]) for seed in seeds], steps),
        },
        pairs,
    )
    solo = ratio_row(all_of_them["together"], all_of_them["alone"])
    return {
        "K = 1, Reacher-v5, its recipe: SB3 / ours, same environments": row | alike,
        f"K = {many}, Reacher-v5, its recipe: solo / population": solo,
    }


def population_rows(minibatch: int, given: argparse.Namespace) -> dict[str, Any]:
    """All about populations with one minibatch."""
    many = 16 if 16 in given.sizes else max(given.sizes)
    name = f"K = {many}, {minibatch=}"
    rows = growth_rows(minibatch, given.sizes, given.blocks, given.pairs)
    rows[f"{name}, two cores: solo / population"] = two_core_row(
        minibatch, given.blocks, given.pairs, many
    )
    rows[f"{name}: share of time"] = split(minibatch, given.blocks, many)
    return rows


def main() -> None:
    """Compare, measure and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--steps", type=int, default=32_768, help="of one agent")
    options.add_argument("--blocks", type=int, default=2, help="of a population")
    options.add_argument("--minibatches", type=int, nargs="+", default=[64, 256, 1024])
    options.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = parsed(options)
    only = None
    if given.quick:
        given.pairs, given.steps, given.blocks, only = 2, 4096, 1, 1
        given.minibatches, given.sizes = [1024], [1, 2, 4]
    torch.set_num_threads(1)
    keep_freed_memory()
    if "main" in given.only:
        rows = one_agent_rows(given.steps, given.pairs, only)
        for minibatch in given.minibatches:
            rows |= population_rows(minibatch, given)
        keep("fast_ppo", "python -m benchmarks.fast_ppo", rows, given.out)
    command = "python -m benchmarks.fast_ppo --only"
    if "recipe" in given.only:
        rows = population_rows(MINIGRID.batch_size, given)
        keep("fast_ppo_recipe", f"{command} recipe", rows, given.out)
    if "mujoco" in given.only:
        many = 2 if given.quick else 16
        rows = mujoco_rows(given.blocks, min(given.pairs, MUJOCO_PAIRS), many)
        keep("fast_ppo_mujoco", f"{command} mujoco", rows, given.out)


if __name__ == "__main__":
    main()
