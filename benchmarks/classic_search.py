"""A search on MountainCarContinuous, without and with the embedded model.

Shown: the human-normalised score of the winner with its interval, five fresh seeds,
for ``sampler`` and for ``embedded:coder-1.5b``.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.demo_search import search_and_keep
from guerdon.run import RunConfig

TASK = "guerdon/MountainCarContinuous-v0"
MODELS = {"sampler": "sampler", "coder": "embedded:coder-1.5b"}


def main() -> None:
    """Both searches, one after the other."""
    for name, llm in MODELS.items():
        config = RunConfig(
            task=TASK,
            llm=llm,
            candidates=6,
            rounds=3,
            steps=10_000,
            seeds=5,
            final_seeds=1,
        )
        folder = Path(f"runs/bench-classic-{name}")
        search_and_keep(config, folder, f"classic_search_{name}", "make bench-classic")


if __name__ == "__main__":
    main()
