"""Searches in classic control and Box2D, without and with the embedded model.

Shown: the human-normalised score of the winner with its interval, five fresh seeds.
``python -m benchmarks.classic_search NAME`` runs one of them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.demo_search import search_and_keep
from guerdon.run import RunConfig

MOUNTAIN_CAR = RunConfig(
    task="guerdon/MountainCarContinuous-v0",
    candidates=6,
    rounds=3,
    steps=10_000,
    seeds=5,
    final_seeds=1,
    llm="sampler",
)
LUNAR_LANDER = RunConfig(
    task="guerdon/LunarLander-v3",
    candidates=6,
    rounds=2,
    steps=200_000,
    seeds=5,
    final_seeds=1,
    llm="embedded:coder-1.5b",
)
SEARCHES = {
    "classic_search_sampler": MOUNTAIN_CAR,
    "classic_search_coder": replace(MOUNTAIN_CAR, llm="embedded:coder-1.5b"),
    "lunar_search_sampler": replace(LUNAR_LANDER, llm="sampler"),
    "lunar_search_coder": LUNAR_LANDER,
}


def main() -> None:
    """The searches that the command line names, or all, one after the other."""
    for name in sys.argv[1:] or SEARCHES:
        folder = Path("runs") / f"bench-{name}"
        command = f"python -m benchmarks.classic_search {name}"
        search_and_keep(SEARCHES[name], folder, name, command, timed=False)


if __name__ == "__main__":
    main()
