"""Whether the recurrent recipe learns what needs a memory: levels with and without.

At the end of a corridor the agent has to go to the thing that it saw at the beginning.
In MemoryS7 it can still see it from there, so there is a way without a memory; in
MemoryS13 it cannot, and without a memory it can only guess, which is right in one half.
No gate is set for them; a row says what the task's recipe reaches with its GRU, and
what the same numbers reach without it. That the recurrent core can learn to remember at
all is shown where the best is known: a sign is seen once and asked for some steps later
(``recall.py``), where nothing without a memory is right in more than one half. Levels
are kept in ``fast_memory.csv``, so a cut run goes on where it was, and more seeds or
steps may be asked for later.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.fast_learning import iqm
from benchmarks.harness import keep, parsed
from benchmarks.recall import Recall
from benchmarks.records import Records
from guerdon.agents.evaluate_rows import agents_of, evaluate_rows
from guerdon.agents.population import arrays_for
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.recipes import Recipe, recipe_for
from guerdon.agents.row_rewards import ProgramRewards
from guerdon.agents.training import EVALUATION_SEED
from guerdon.envs import Task, load_task

COLUMNS = (
    *("task", "asked_steps", "side", "seed"),
    *("steps", "fitness", "success", "seconds"),
)
"""Of the file; the first four say which training it is."""


def sides(task: Task) -> dict[str, Recipe]:
    """The task's recipe, and the same without the GRU.

    Raises:
        ValueError: for a task whose recipe has no memory.
    """
    recipe = recipe_for(task, "ppo")
    if not recipe.memory:
        raise ValueError(f"{task.id}: expected a task whose recipe has a memory")
    return {"with": recipe, "without": recipe.without_memory()}


def learn(
    task: Task, recipe: Recipe, seeds: list[int], steps: int, episodes: int
) -> list[dict[str, Any]]:
    """All seeds as rows of one population, paid by the sparse reward."""
    total = recipe.whole_steps(steps)
    config = PPOConfig.from_recipe(recipe, total_steps=total)
    rewards = ProgramRewards(task, ["sparse"] * len(seeds), "none", config.envs)
    env = arrays_for(task, len(seeds) * config.envs)
    population = Population(env, config, seeds, rewards=rewards)
    started = time.perf_counter()
    population.learn(total)
    seconds = (time.perf_counter() - started) / len(seeds)
    for row in population.rows:
        assert row.failure is None, row.failure
    judged = evaluate_rows(
        task,
        agents_of(population),
        arrays_for,
        episodes=episodes,
        seed=EVALUATION_SEED,
        deterministic=recipe.deterministic,
    )
    env.close()
    rows = []
    for row, found in enumerate(judged):
        assert not isinstance(found, ValueError), found
        scores = {"fitness": found.mean_fitness, "success": found.success_rate}
        rows.append(scores | {"steps": population.steps(row), "seconds": seconds})
    return rows


def compared(given: np.ndarray, without: np.ndarray) -> dict[str, Any]:
    """Two samples of true scores, ``(S,)`` each, with a bootstrap over seeds."""
    rng = np.random.default_rng(0)
    a, b = (rng.choice(sample, (10_000, len(sample))) for sample in (given, without))
    low, high = np.percentile(iqm(a) - iqm(b), [2.5, 97.5])
    return {
        "difference": float(iqm(given) - iqm(without)),
        "low": float(low),
        "high": float(high),
        "with, iqm": float(iqm(given)),
        "without, iqm": float(iqm(without)),
    }


def row_of(
    records: Records, level: str, seeds: int, steps: int, episodes: int
) -> tuple[str, dict[str, Any]]:
    """Train what is missing of a level, and compare."""
    task = load_task(f"guerdon/{level}-v0")
    found: dict[str, dict[str, np.ndarray]] = {}
    for side, recipe in sides(task).items():
        who = {"task": task.id, "asked_steps": steps, "side": side}
        key = task.id, steps, side
        missing = [s for s in range(seeds) if not records.has(*key, s)]
        if missing:
            learnt = learn(task, recipe, missing, steps, episodes)
            for seed, row in zip(missing, learnt, strict=True):
                records.add(who | {"seed": seed} | row)
                print(f"{task.id}, {side}, seed {seed}: {row}", flush=True)
        kept = [row for row in records.of(*key) if int(row["seed"]) < seeds]
        found[side] = {
            name: np.array([float(row[name]) for row in kept])
            for name in ("fitness", "success")
        }
    row = compared(found["with"]["fitness"], found["without"]["fitness"])
    row |= {
        "solved share of each, with": found["with"]["success"].tolist(),
        "solved share of each, without": found["without"]["success"].tolist(),
        "seeds": seeds,
        "steps": steps,
    }
    return f"{task.id}: difference of true scores", row


RECALL = PPOConfig(
    envs=16,
    steps=64,
    minibatch=256,
    epochs=4,
    learning_rate=1e-3,
    ent_coef=0.01,
    encoder="vector",
    hidden=(32, 32),
    shared=True,
    memory=32,
)
RECALL_HORIZON = 16
RECALL_STEPS = 196_608


def recall_row(horizon: int, seeds: int, steps: int) -> tuple[str, dict[str, Any]]:
    """Right answers in the last tenth of the training, with the GRU and without."""
    row: dict[str, Any] = {"seeds": seeds, "steps": steps}
    for side, memory in (("with", RECALL.memory), ("without", 0)):
        config = replace(RECALL, memory=memory)
        env = Recall(seeds * config.envs, horizon)
        population = Population(env, config, list(range(seeds)))
        population.learn(steps)
        logs = [population.log.of(one.id) for one in population.rows]
        late = [log.success[log.step > 0.9 * steps] for log in logs]
        right = [float(one.mean()) for one in late]
        row[f"share of right answers, {side}"] = right
        row[f"{side}, mean"] = float(np.mean(right))
    return f"a sign asked for {horizon} steps later", row


def main() -> None:
    """Train what is missing, compare and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--levels", nargs="+", default=["MemoryS7", "MemoryS13"])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=1_000_000)
    options.add_argument("--episodes", type=int, default=128)
    given = parsed(options)
    if given.quick:
        given.seeds, given.steps, given.episodes = 2, 4096, 4
    torch.set_num_threads(1)
    records = Records(given.out / "fast_memory.csv", COLUMNS, key=4)
    asked = given.seeds, given.steps, given.episodes
    rows = dict(row_of(records, level, *asked) for level in given.levels)
    recall = (3, 2, 4096) if given.quick else (RECALL_HORIZON, 10, RECALL_STEPS)
    name, row = recall_row(*recall)
    rows[name] = row
    command = "python -m benchmarks.fast_memory"
    keep("fast_memory", command, rows, given.out, timed=False)


if __name__ == "__main__":
    main()
