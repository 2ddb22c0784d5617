"""The grid engine and a population on a GPU: first whether right, then how fast.

Nothing is claimed of it yet: it was written without a GPU at hand. Every array of every
step is compared with the CPU engine's before any clock starts, and then two trainings;
where they differ, nothing is measured. Run it on a machine with a GPU:
python -m benchmarks.fast_grid_cuda

Sums on a GPU have other last bits, so two trainings are not equal. What must hold is
that nearly all actions of the first block are, whose policies differ by those bits
alone, and that no test of the rows' scores tells the devices apart.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.harness import alternated, keep
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.envs.grid.choose import make_engine
from guerdon.envs.grid.levels import LEVELS
from guerdon.extras import MissingExtra

TRAINED = "DoorKey-5x5"

ALIKE = 0.99
"""Least share of equal actions in the first block."""

CHANCE = 0.001
"""A difference of scores that is less likely than this is none of chance."""

MEASURED = ("DoorKey-8x8", "MultiRoom-N4-S5", "Dynamic-Obstacles-8x8")


def compare(name: str, lanes: int, steps: int) -> int:
    """Play one level on both; how many numbers were compared.

    Raises:
        AssertionError: names the level, the step and the array that differ.
    """
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 2**62, lanes)
    cpu, gpu = make_engine(name, lanes), make_engine(name, lanes, device="cuda")
    ours, theirs = cpu.reset(seeds), gpu.reset(seeds)
    compared = 0
    for step in range(steps + 1):
        if step:
            actions = rng.integers(0, 7, lanes)
            ours, theirs = cpu.step(actions), gpu.step(actions)
        for parts in ((ours, theirs), (cpu.export(), gpu.export())):
            for field, a, b in zip(parts[0]._fields, *parts, strict=True):
                b = b.cpu().numpy() if isinstance(b, torch.Tensor) else b
                assert a.tobytes() == b.tobytes(), (
                    f"{name}, step {step}: {field} differs"
                )
                compared += a.size
    return compared


def ratio(name: str, lanes: int, steps: int, pairs: int) -> dict[str, Any]:
    """Seconds of both for so many steps of random play, actions being there already."""
    cpu = make_engine(name, lanes, threads=os.cpu_count())
    gpu = make_engine(name, lanes, device="cuda")
    actions = np.random.default_rng(0).integers(0, 7, (steps, lanes))
    there = torch.tensor(actions, device=gpu.device)
    for engine in (cpu, gpu):
        engine.reset(np.arange(lanes))

    def on_gpu() -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        for row in there:
            gpu.step_unchecked(row)
        torch.cuda.synchronize()
        return time.perf_counter() - started

    def on_cpu() -> None:
        arrays = cpu.observe()
        for row in actions:
            cpu.step_unchecked(row, arrays)

    found = alternated(on_gpu, on_cpu, pairs)
    found["gpu steps a second"] = lanes * steps / found["first_seconds"]
    found["cpu steps a second"] = lanes * steps / found["second_seconds"]
    return found


def begun(level: str, device: str, rows: int, envs: int, **more: Any) -> Population:
    """A population on the engine of a device; its seeds are those of any other's."""
    config = PPOConfig(
        envs=envs,
        steps=128,
        minibatch=128 * envs // 4,
        ent_coef=0.01,
        encoder="one_hot",
        device=device,
        **more,
    )
    threads = os.cpu_count() if device == "cpu" else None
    env = make_engine(level, rows * envs, device=device, threads=threads)
    return Population(env, config, list(range(rows)))


def compare_trainings(
    level: str, rows: int, envs: int, blocks: int, **more: Any
) -> dict[str, Any]:
    """Train the same rows on both; how alike they are.

    Raises:
        AssertionError: says what tells them apart.
    """
    actions, scores, loss = [], [], []
    for device in ("cpu", "cuda"):
        own = more if device == "cuda" else {}
        population = begun(level, device, rows, envs, **own)
        population.collect()
        actions.append(population.acting.rollout.sent.copy())
        loss.append(population.update().value_loss)
        population.learn((blocks - 1) * population.config.block)
        last = 2 * population.steps(0) // 3
        names = [row.id for row in population.rows]
        scores.append(population.log.means(names, since=last))
        assert not any(row.failure for row in population.rows), "a row has failed"
    alike = float((actions[0] == actions[1]).mean())
    assert alike >= ALIKE, f"of the first block's actions {alike:.1%} are equal"
    chance = float(stats.ttest_ind(*scores, equal_var=False).pvalue)
    # Scores that are all the same have no spread, and then no chance either.
    same = bool(np.allclose(*scores))
    assert same or chance >= CHANCE, f"scores {scores[0].mean()}, {scores[1].mean()}"
    return {
        "equal actions in the first block": alike,
        "first value loss, cpu and gpu": [float(one.mean()) for one in loss],
        "score in the last third, cpu": scores[0].tolist(),
        "score in the last third, gpu": scores[1].tolist(),
        "chance of such a difference": None if same else chance,
    }


def trained(level: str, rows: int, envs: int, pairs: int, **more: Any) -> Any:
    """Seconds of both for a block and its update."""
    sides = [begun(level, "cuda", rows, envs, **more), begun(level, "cpu", rows, envs)]
    block = sides[0].config.block

    def on_gpu() -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        sides[0].learn(block)
        torch.cuda.synchronize()
        return time.perf_counter() - started

    found = alternated(on_gpu, lambda: sides[1].learn(block), pairs)
    found["gpu steps a second"] = rows * block / found["first_seconds"]
    found["cpu steps a second"] = rows * block / found["second_seconds"]
    return found


def main() -> int:
    """Compare, measure and keep; 2 where there is no GPU, 1 where numbers differ."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lanes", type=int, nargs="+", default=[1024, 16384, 131072])
    options.add_argument("--steps", type=int, default=128)
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--rows", type=int, default=16)
    options.add_argument("--envs", type=int, nargs="+", default=[16, 256])
    options.add_argument("--blocks", type=int, default=60)
    options.add_argument("--graphs", action="store_true", help="replay CUDA graphs")
    options.add_argument("--name", default="fast_grid_cuda")
    given = options.parse_args()
    try:
        make_engine("Empty-5x5", device="cuda")
    except (RuntimeError, MissingExtra) as error:
        print(f"nothing was compared or measured: {error}", file=sys.stderr)
        return 2
    rows: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    try:
        rows["numbers compared"] = {name: compare(name, 512, 100) for name in LEVELS}
        rows["two trainings"] = compare_trainings(
            TRAINED, given.rows, given.envs[0], given.blocks, cuda_graphs=given.graphs
        )
    except AssertionError as error:
        print(f"the GPU differs from the CPU, nothing was measured: {error}")
        return 1
    for name in MEASURED:
        for lanes in given.lanes:
            rows[f"{name}, {lanes} lanes: cpu / gpu"] = ratio(
                name, lanes, given.steps, given.pairs
            )
    for envs in given.envs:
        name = f"{TRAINED}, {given.rows} rows of {envs}: cpu / gpu, a block learned"
        rows[name] = trained(
            TRAINED, given.rows, envs, given.pairs, cuda_graphs=given.graphs
        )
    keep(given.name, "python -m benchmarks.fast_grid_cuda", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
