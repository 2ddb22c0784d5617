"""The elitist archive: nothing good is ever lost, and parents are drawn from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from guerdon.reward_design.search.candidate import Score, Trained


@dataclass
class Archive:
    """All trained candidates, best first; those that lost a race come last."""

    members: list[Trained] = field(default_factory=list)

    def add(self, trained: Trained) -> float:
        """Put a candidate in and give the share of the others that it beats."""
        others = [m.score.mean for m in self.members]
        mean = trained.score.mean
        beaten = sum((mean > o) + 0.5 * (mean == o) for o in others)
        self.members.append(trained)
        self._sort()
        return beaten / len(others) if others else 0.5

    def replace(self, candidate: str, score: Score) -> Trained:
        """Give a candidate more seeds; KeyError for an unknown one."""
        for place, member in enumerate(self.members):
            if member.id == candidate:
                joined = Trained(member.proposal, member.score.joined(score))
                self.members[place] = joined
                self._sort()
                return joined
        raise KeyError(candidate)

    def __getitem__(self, candidate: str) -> Trained:
        for member in self.members:
            if member.id == candidate:
                return member
        raise KeyError(candidate)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def best(self) -> Trained | None:
        """The candidate with the best mean true score; the earlier one of equals.

        One that was trained to the end comes before one that was not.
        """
        return self.members[0] if self.members else None

    def parents(self, count: int, rng: np.random.Generator) -> list[Trained]:
        """``count`` different parents, each the best of three drawn at random.

        Ties of fitness are broken at random, so that in a sparse task, where all
        first candidates score 0, the parents still vary.
        """
        chosen: list[Trained] = []
        pool = list(self.members)
        for _ in range(min(count, len(pool))):
            places = rng.integers(len(pool), size=3)
            best = max(places, key=lambda i: (pool[i].score.mean, rng.random()))
            chosen.append(pool.pop(int(best)))
        return chosen

    def _sort(self) -> None:
        self.members.sort(
            key=lambda m: (
                not m.score.complete,
                -m.score.mean,
                m.proposal.round,
                m.id,
            )
        )
