"""The finals of a run: what a resumed one finds in its journal changes no decision."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from guerdon.journal import TrainingRecord
from guerdon.reward_design.search import Proposal, Score, Search, SearchConfig, Trained
from guerdon.run.loop import Loop
from guerdon.run.trainings import Trainings

NAMES = ("r1-c01", "r1-c02", "r1-c03")
Table = dict[tuple[str, int], float]
"""True score by candidate and seed; seed 0 is that of the search."""


def table(number: int) -> Table:
    rng = np.random.default_rng(number)
    return {(n, s): float(rng.integers(17)) / 16 for n in NAMES for s in range(3)}


def record(scores: Table, name: str, seed: int) -> TrainingRecord:
    result = {"fitness": scores[name, seed], "success": 1.0, "curve": {"terms": {}}}
    return TrainingRecord(
        key=f"{name} {seed}",
        candidate=name,
        seed=seed,
        purpose="final",
        steps=100,
        result=result,
    )


class Finals(Loop):
    """The finals alone: three candidates, at most two more seeds, trained at once."""

    def __init__(self, scores: Table, kept: Sequence[tuple[str, int]]) -> None:
        self.config = SimpleNamespace(steps=100)  # type: ignore[assignment]
        self.observe = lambda kind, data: None
        self.search = Search(SearchConfig(candidates=3, rounds=1, final_seeds=2))
        for slot, name in enumerate(NAMES):
            score = Score({0: scores[name, 0]}, {0: 1.0})
            proposal = Proposal(name, 0, slot, "sample", source=name)
            self.search.archive.add(Trained(proposal, score))
        self.records = [record(scores, name, seed) for name, seed in kept]
        self.trainings = Trainings.__new__(Trainings)
        self.trainings.journal = SimpleNamespace(  # type: ignore[assignment]
            trainings=lambda name, purpose: [
                r for r in self.records if r.candidate == name
            ]
        )
        self.scores = scores
        self.asked: list[tuple[str, int]] = []

    def _job(self, reward: str, seed: int) -> Any:
        return SimpleNamespace(seed=seed)

    def _train_all(self, purpose: str, entries: Any) -> None:
        for name, job in entries:
            self.asked.append((name, job.seed))
            if not any((r.candidate, r.seed) == self.asked[-1] for r in self.records):
                self.records.append(record(self.scores, name, job.seed))

    def outcome(self) -> tuple[str, float, list[tuple[str, int]]]:
        self._finals()
        winner = self.search.winner()
        assert winner is not None
        return winner.id, self.search.best_probability(), self.asked


@pytest.mark.parametrize("first", NAMES)
def test_a_seed_that_was_trained_before_it_is_asked_for_counts_for_nobody(
    first: str,
) -> None:
    both = 0
    for number in range(40):
        calm = Finals(table(number), []).outcome()
        # Killed when one of the second seeds was in the journal and the others not.
        if (first, 2) not in calm[2]:
            continue
        both += 1
        kept = [(name, 1) for name in NAMES] + [(first, 2)]
        assert Finals(table(number), kept).outcome() == calm
    assert both > 20
