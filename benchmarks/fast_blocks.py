"""Rewards per block: K programs one by one against one pass.

Claims, on one core: 16 programs on one block in one pass cost less than 16 single
programs; a population's block, where each row has its own program, costs under 1 % of a
training step (some 20 microseconds a transition and row). Both sides give the same
float32, which is checked before the clock starts. The time to compile is a row of its
own, and so is numba, which loses where little is scored.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np

from benchmarks.harness import alternated, keep, parsed
from guerdon.envs import load_task
from guerdon.reward_design.language import Tree, terms
from guerdon.reward_design.language.block import BlockPrograms, compile_block
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.program import program
from guerdon.types import Batch, Features, Spec

TASK = load_task("guerdon/DoorKey-8x8-v0")
STEPS, ENVIRONMENTS = 64, 32


def block_of(lanes: int, rng: np.random.Generator) -> Batch:
    """A block of random features."""
    layout, lead = TASK.layout, (STEPS, lanes)
    rows = rng.normal(size=(STEPS + 1, lanes, layout.width)).astype(np.float32)
    for feature in layout:
        if feature.kind == "flag":
            rows[..., layout.columns(feature.name)] = rng.random(
                (STEPS + 1, lanes, 1)
            ) < (0.5)
    return Batch(
        obs=None,
        action=rng.integers(TASK.action.size, size=lead),
        next_obs=None,
        prev=Features(layout, rows[:-1]),
        now=Features(layout, rows[1:]),
        reward=np.zeros(lead, np.float32),
        terminated=rng.random(lead) < 0.01,
        truncated=np.zeros(lead, np.bool_),
    )


def part_of(batch: Batch, lanes: slice) -> Batch:
    """Some lanes of a block."""
    layout = TASK.layout
    return batch._replace(
        action=batch.action[:, lanes],
        prev=Features(layout, batch.prev.rows[:, lanes]),
        now=Features(layout, batch.now.rows[:, lanes]),
        reward=batch.reward[:, lanes],
        terminated=batch.terminated[:, lanes],
        truncated=batch.truncated[:, lanes],
    )


def one_by_one(
    trees: list[Tree], batches: list[Batch]
) -> Callable[[], list[np.ndarray]]:
    """Each program alone on its batch, as before."""
    designs = [program(terms(tree, TASK.layout, TASK.action)) for tree in trees]
    lanes = [batch.reward.shape[1:] for batch in batches]
    states = [
        design.init(Spec(TASK.layout, TASK.action, lead))
        for design, lead in zip(designs, lanes, strict=True)
    ]

    def run() -> list[np.ndarray]:
        found = []
        for design, state, batch in zip(designs, states, batches, strict=True):
            found.append(design.apply(state, batch)[0].reward)
        return found

    return run


def measured(
    first: Callable[[], Any], second: Callable[[], Any], scored: int, pairs: int
) -> dict[str, Any]:
    """One by one over one pass; more than 1 is faster."""

    def timed(run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: [run() for _ in range(5)] and None

    row = alternated(timed(second), timed(first), pairs)
    for name in ("first", "second"):
        row[f"{name}_ns_a_reward"] = 1e9 * row[f"{name}_seconds"] / (5 * scored)
    return row


def compile_seconds(trees: list[Tree], backend: Any, batch: Batch) -> float:
    """From trees to the first rewards of a population."""
    started = time.perf_counter()
    made = compile_block(trees, TASK.layout, TASK.action, backend=backend)
    lanes = batch.reward.shape[1]
    made.score_own(made.init_own(lanes), batch, np.arange(len(trees)))
    return time.perf_counter() - started


def rows_of(
    count: int, backends: list[Any], pairs: int, rng: np.random.Generator
) -> dict[str, Any]:
    """What is measured for one number of programs."""
    trees = [sample(TASK.layout, TASK.action, rng) for _ in range(count)]
    rows, lanes = np.arange(count), count * ENVIRONMENTS
    batch = block_of(lanes, rng)
    spans = [slice(k * ENVIRONMENTS, (k + 1) * ENVIRONMENTS) for k in rows]
    small = part_of(batch, spans[0])
    own = one_by_one(trees, [part_of(batch, span) for span in spans])
    every = one_by_one(trees, [small] * count)
    found: dict[str, Any] = {}
    for backend in backends:
        made = compile_block(trees, TASK.layout, TASK.action, backend=backend)

        def population(made: BlockPrograms = made) -> np.ndarray:
            return made.score_own(made.init_own(lanes), batch, rows)[0].total

        def together(made: BlockPrograms = made) -> np.ndarray:
            return made.score_all(made.init_all(ENVIRONMENTS), small)[0].total

        # Numba has its own exp: one unit in the last place of a float32.
        ulp = 0.0 if backend == "numpy" else 2.0**-23
        for span, alone in zip(spans, own(), strict=True):
            np.testing.assert_allclose(population()[:, span], alone, rtol=ulp, atol=0)
        np.testing.assert_allclose(together(), np.stack(every()), rtol=ulp, atol=0)
        name = f"{count} programs, {backend}"
        scored = STEPS * ENVIRONMENTS * count
        found[f"{name}, own rows: one by one / one pass"] = measured(
            own, population, scored, pairs
        )
        found[f"{name}, one block: one by one / one pass"] = measured(
            every, together, scored, pairs
        )
        found[f"{name}, first rewards, seconds"] = compile_seconds(
            trees, backend, batch
        )
    return found


def main() -> None:
    """Measure and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--programs", type=int, nargs="+", default=[1, 4, 16, 64])
    options.add_argument("--numba", type=int, default=16, help="programs; 0: none")
    options.add_argument("--name", default="fast_blocks")
    given = parsed(options)
    if given.quick:
        given.pairs, given.programs, given.numba = 2, [1, 4], 0
    rng = np.random.default_rng(0)
    result: dict[str, Any] = {}
    for count in given.programs:
        backends = ["numpy"] + (["numba"] if count == given.numba else [])
        result |= rows_of(count, backends, given.pairs, rng)
    keep(given.name, "make bench-fast", result, given.out)


if __name__ == "__main__":
    main()
