"""Whether the screen's order is that of the trainings: rank correlation per task.

The screen (``guerdon/reward_design/search/screen.py``) puts a number on a reward before
anything is trained, its ``promise``. Here it is compared with the true score after
training, on the frozen corpus (``corpus.py``), which is only read. The bank is that of
a search before its first round: random play alone; a larger one is measured beside it.
By kind, and for the quarter that the screen likes best.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.corpus import DATA, TASKS, read
from benchmarks.harness import QUICK, keep, parsed
from benchmarks.ranks import spearman
from guerdon.envs import load_task
from guerdon.reward_design.language import parse
from guerdon.reward_design.search import Bank, collect, screen_many
from guerdon.reward_design.search.screen import Screened

FEWEST = 5
"""Rewards of a kind whose correlation is worth telling."""


def promises(bank: Bank, records: list[dict[str, Any]]) -> list[float | None]:
    """What the screen thinks of each; None for what it rejects."""
    task = bank.task
    trees = [parse(one["source"], task.layout, task.action) for one in records]
    found = screen_many(trees, bank)
    return [
        one.screening.promise if isinstance(one, Screened) else None for one in found
    ]


def rows_of(bank: Bank, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The correlations on one bank."""
    known = [
        (promise, one["fitness"], one["kind"])
        for promise, one in zip(promises(bank, records), records, strict=True)
        if promise is not None and "fitness" in one
    ]
    promise = np.array([one[0] for one in known])
    fitness = np.array([one[1] for one in known])
    kinds = np.array([one[2] for one in known])
    row: dict[str, Any] = {
        "transitions": bank.size,
        "rewards": len(records),
        "not compared": len(records) - len(known),
        "all": spearman(promise, fitness),
    }
    for kind in dict.fromkeys(kinds.tolist()):
        of_kind = kinds == kind
        row[kind] = {
            "mean promise": float(promise[of_kind].mean()),
            "mean fitness": float(fitness[of_kind].mean()),
        }
        if of_kind.sum() >= FEWEST:
            row[kind] |= spearman(promise[of_kind], fitness[of_kind])
    best = np.argsort(-promise, kind="stable")[: max(1, len(known) // 4)]
    row["mean fitness of the most promising quarter"] = float(fitness[best].mean())
    row["mean fitness of all"] = float(fitness.mean())
    return row


def main() -> None:
    """Compare and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, help="folder of the corpus")
    options.add_argument("--steps", type=int, nargs="+", default=[6000, 50_000])
    given = parsed(options)
    if given.quick:
        given.steps = [1000]
    folder = given.data or (QUICK / "data" if given.quick else DATA)
    rows: dict[str, Any] = {}
    for name in TASKS:
        records = read(name, folder)
        if not records:
            rows[name] = "no corpus: python -m benchmarks.corpus makes it"
            continue
        for steps in given.steps:
            bank = collect(load_task(name), steps=steps)
            rows[f"{name}, bank of {steps}"] = rows_of(bank, records)
    command = "python -m benchmarks.screen_rank"
    keep("screen_rank", command, rows, given.out, timed=False)


if __name__ == "__main__":
    main()
