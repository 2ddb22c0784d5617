"""How long a whole search takes: 16 candidates, 5 rounds, DoorKey-8x8, two workers.

Claim: at most 15 minutes on two cores with the operators alone (``sampler``), from the
start of the command to its report: imports, screening, races, finals, the holdout of
winner and references over fresh seeds, the film and the report are inside. Where the
time went and what was found is kept beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import keep, parsed

KEPT = (
    *("trainings", "environment_steps", "failures", "cpu_seconds", "wall_seconds"),
    "profile",
)
"""Of the summary."""


def search(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run it as a user would; seconds and the summary that it prints."""
    command = [sys.executable, "-m", "guerdon", "search", given.task]
    for name in ("llm", "candidates", "rounds", "steps", "seeds", "seed", "workers"):
        command += [f"--{name}", str(getattr(given, name))]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(folder), "--json", "--profile"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    summary = json.loads(done.stdout)
    kept = {name: summary[name] for name in KEPT if name in summary}
    scores = summary.get("holdout") or {}
    kept["holdout, success"] = {
        who: score["success"] for who, score in scores.items() if score
    }
    return {"minutes": seconds / 60} | kept


def main() -> None:
    """Search and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--task", default="guerdon/DoorKey-8x8-v0")
    options.add_argument("--llm", default="sampler")
    options.add_argument("--candidates", type=int, default=16)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=100_000)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workers", type=int, default=2)
    given = parsed(options)
    if given.quick:
        given.candidates, given.rounds, given.steps, given.seeds = 2, 1, 4096, 1
    with tempfile.TemporaryDirectory() as folder:
        row = search(given, Path(folder) / "run")
    name = (
        f"{given.candidates} candidates x {given.rounds} rounds, {given.workers} cores"
    )
    keep("fast_whole", "python -m benchmarks.fast_whole", {name: row}, given.out)


if __name__ == "__main__":
    main()
