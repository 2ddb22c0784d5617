"""Candidates of the frozen corpus, trained as populations in two worker processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.corpus import chosen
from guerdon.agents.recipes import MINIGRID
from guerdon.agents.training import Leg, TrainingJob, TrainingResult, Trouble
from guerdon.agents.workers import WorkerPool
from guerdon.reward_design.search.race import Full, Halving, Race
from guerdon.reward_design.search.race_bandits import D3RB, UCB

TASK = "guerdon/DoorKey-6x6-v0"
BLOCK = MINIGRID.n_envs * MINIGRID.n_steps
BUDGET = 24 * BLOCK
"""Environment steps of a full training: 98,304."""
EPISODES = 32
"""Of every judgement."""
DEADLINE = 3600.0
"""Seconds of a leg."""


def candidates(count: int) -> list[str]:
    """Rewards of the frozen corpus, of all kinds."""
    return [entry.source for entry in chosen(TASK, count)]


class Workers:
    """Two processes that train populations; leaving them ends them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._pool = WorkerPool(
            2, DEADLINE, Path(self._folder.name), populations_only=True
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        self._folder.cleanup()

    def train(self, jobs: Sequence[TrainingJob], start: int) -> list[np.ndarray | None]:
        """True scores of every job, both processes sharing them; None for a failure.

        Raises:
            OSError: for what the machine could not do.
        """
        half = -(-len(jobs) // 2)
        for part in (jobs[:half], jobs[half:]):
            if part:
                self._pool.submit(Leg(tuple(part), start))
        found: dict[str, np.ndarray | None] = {}
        for one, outcome in self._pool.as_completed():
            if isinstance(outcome, Trouble):
                raise outcome.error()
            scores = None
            if isinstance(outcome, TrainingResult):
                scores = np.array(outcome.fitness)
            found[one.key] = scores
        return [found[one.key] for one in jobs]


def job(source: str, steps: int, budget: int, seed: int) -> TrainingJob:
    """A training up to ``steps`` of ``budget``."""
    return TrainingJob(
        TASK,
        source,
        steps,
        seed,
        trainer="population",
        whole=budget,
        eval_episodes=EPISODES,
        record_episodes=0,
    )


def policies(budget: int, count: int) -> dict[str, tuple[Callable[[], Race], int]]:
    """Makers of races, and how many legs each is asked for at a time."""
    leg = BLOCK * max(1, budget // BLOCK // 8)
    total = max(leg * count, budget * count // 3 - budget)  # the last one on top

    def halving(eta: int, rungs: int) -> Callable[[], Race]:
        return lambda: Halving(budget, eta=eta, rungs=rungs, multiple=BLOCK)

    return {
        "full": (lambda: Full(budget), count),
        "halving, eta 2": (halving(2, 4), count),
        "halving, eta 4": (halving(4, 3), count),
        "UCB": (lambda: UCB(budget, leg=leg, total=total), 1),
        "D3RB": (lambda: D3RB(budget, leg=leg, total=total), 1),
    }
