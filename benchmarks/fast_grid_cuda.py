"""The grid engine on a GPU: first whether it is right, then how fast it is.

Nothing is claimed of it yet: it was written without a GPU at hand. Every array of every
step is compared with the CPU engine's before any clock starts; where one differs,
nothing is measured. Run it on a machine with a GPU: python -m benchmarks.fast_grid_cuda
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.harness import alternated, keep
from guerdon.envs.grid.choose import make_engine
from guerdon.envs.grid.levels import LEVELS
from guerdon.extras import MissingExtra

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


def main() -> int:
    """Compare, measure and keep; 2 where there is no GPU, 1 where numbers differ."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lanes", type=int, nargs="+", default=[1024, 16384, 131072])
    options.add_argument("--steps", type=int, default=128)
    options.add_argument("--pairs", type=int, default=9)
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
    except AssertionError as error:
        print(f"the GPU differs from the CPU, nothing was measured: {error}")
        return 1
    for name in MEASURED:
        for lanes in given.lanes:
            rows[f"{name}, {lanes} lanes: cpu / gpu"] = ratio(
                name, lanes, given.steps, given.pairs
            )
    keep(given.name, "python -m benchmarks.fast_grid_cuda", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
