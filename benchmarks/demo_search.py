"""The demo's search on DoorKey-8x8, kept: the embedded model with the operators.

Claims: within 20 minutes on two cores after the download the winner solves at least
.8 of fresh episodes over five fresh seeds, beside the sparse reward and the usual
hand-made dense one; and what the model alone and the operators alone found is shown.
``python -m benchmarks.demo_search sampler`` is the same search without a model.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, keep
from guerdon.cli.progress import observed_search
from guerdon.journal import Journal
from guerdon.run import Resources, RunConfig

FOLDER = Path("runs/bench-demo")
CONFIG = RunConfig(
    task="guerdon/DoorKey-8x8-v0",
    llm="embedded",
    candidates=14,
    rounds=3,
    steps=100_000,
    seeds=5,
)


def write_trainings(folder: Path, name: str) -> None:
    """Every training of a run as one line of ``results/NAME.csv``."""
    with Journal.open(folder, readonly=True) as journal:
        operators = {c.id: c.operator for c in journal.candidates()}
        trainings = journal.trainings()
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(
            [
                "candidate",
                "operator",
                "purpose",
                "seed",
                "steps",
                "fitness",
                "success",
                "failure",
            ]
        )
        for t in trainings:
            result: dict[str, Any] = t.result or {}
            scores = [
                f"{result[k]:.6g}" if k in result else ""
                for k in ("fitness", "success")
            ]
            who = operators.get(t.candidate, "reference")
            why = t.failure.kind if t.failure else ""
            out.writerow([t.candidate, who, t.purpose, t.seed, t.steps, *scores, why])


def search_and_keep(
    config: RunConfig, folder: Path, name: str, command: str, *, timed: bool = True
) -> None:
    """Run (or go on with) a search and keep its summary and its trainings.

    Args:
        config: of the search.
        folder: of the run.
        name: of the files that are kept.
        command: that made them.
        timed: whether its times are claimed anywhere, and not its scores alone.
    """
    if (folder / "report.html").exists():
        # Read again it would be stamped with the load and the date of the reading.
        raise SystemExit(f"{folder}: finished already; move it away to measure anew")
    summary = observed_search(config, folder, Resources(workers=2), quiet=False)
    RESULTS.mkdir(exist_ok=True)
    write_trainings(folder, name)
    keep(name, command, {"config": asdict(config), **summary}, timed=timed)


def main() -> None:
    """The demo's search, or the same with the model that the command line names."""
    if not sys.argv[1:]:
        search_and_keep(CONFIG, FOLDER, "demo_search", "make bench-demo")
    for model in sys.argv[1:]:
        name = f"demo_search_{model}"
        command = f"python -m benchmarks.demo_search {model}"
        folder = FOLDER.with_name(f"bench-demo-{model}")
        search_and_keep(replace(CONFIG, llm=model), folder, name, command)


if __name__ == "__main__":
    main()
