"""Screening at scale: programs on a bank of 50,000 transitions, on one core.

Claims: 100 sampled and mutated programs are screened in under a second, compiling and
ranks included, and so are copies found among them; one pass is faster than one program
after the other. The screenings of both sides are compared before the clock starts.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.harness import alternated, keep, parsed, seconds_of
from guerdon.envs import load_task
from guerdon.reward_design.language import Tree
from guerdon.reward_design.language.edit import mutate
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.search import (
    Bank,
    collect,
    deduplicate,
    fit_params,
    screen,
    screen_many,
)
from guerdon.reward_design.search.screen import Screened

TASKS = ("guerdon/DoorKey-6x6-v0", "guerdon/MountainCarContinuous-v0")
GATE = 1.0
"""Seconds for 100 programs."""


def drawn(bank: Bank, count: int) -> list[Tree]:
    """Half of them sampled, half mutants of those."""
    rng = np.random.default_rng(0)
    layout, action = bank.task.layout, bank.task.action
    trees = [sample(layout, action, rng) for _ in range(count - count // 2)]
    return [*trees, *(mutate(tree, rng).tree for tree in trees[: count // 2])]


def same(trees: list[Tree], bank: Bank) -> None:
    """Both ways of screening give the same numbers."""
    for tree, one in zip(trees, screen_many(trees, bank), strict=True):
        alone = screen(tree, bank)
        assert type(one) is type(alone)
        if isinstance(one, Screened) and isinstance(alone, Screened):
            assert one.screening == alone.screening


def rows_of(bank: Bank, count: int, pairs: int) -> dict[str, Any]:
    """What is measured on one task."""
    trees = drawn(bank, count)
    bank.batch  # noqa: B018  (made once for each bank)
    same(trees, bank)

    def alone() -> None:
        for tree in trees:
            screen(tree, bank)

    def together() -> None:
        screen_many(trees, bank)

    ratio = alternated(together, alone, pairs)
    hundred = 100.0 / count
    copies = seconds_of(lambda: deduplicate(trees, bank), pairs)
    kept = sum(i == j for i, j in enumerate(deduplicate(trees, bank)))
    weighed = [tree for tree in trees if tree.params][:3]
    return {
        "transitions": bank.size,
        "episodes": len(bank.episodes),
        "programs": count,
        "one by one / one pass": ratio,
        "seconds for 100 in one pass": ratio["first_seconds"] * hundred,
        "within the gate": ratio["first_seconds"] * hundred <= GATE,
        "seconds for 100, copies found": copies * hundred,
        "share that is new": kept / count,
        "seconds to fit the parameters of one": seconds_of(
            lambda: [fit_params(tree, bank) for tree in weighed], 1
        )
        / max(1, len(weighed)),
    }


def main() -> None:
    """Measure and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--programs", type=int, default=100)
    options.add_argument("--transitions", type=int, default=50_000)
    options.add_argument("--name", default="fast_screening")
    given = parsed(options)
    if given.quick:
        given.pairs, given.programs, given.transitions = 2, 8, 2_000
    import torch

    torch.set_num_threads(1)
    result = {}
    for name in TASKS:
        bank = collect(load_task(name), steps=given.transitions)
        result[name] = rows_of(bank, given.programs, given.pairs)
    keep(given.name, "make bench-fast", result, given.out)


if __name__ == "__main__":
    main()
