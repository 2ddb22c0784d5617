"""A candidate reward: a program, where it comes from, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from guerdon.reward_design.language import Tree
from guerdon.types import Failure

Operator = Literal[
    "model_fresh",
    "model_mutate",
    "model_cross",
    "model_simplify",
    "sample",
    "mutate",
    "cross",
    "simplify",
    "fit",
]

MODEL_OPERATORS: tuple[Operator, ...] = (
    *("model_fresh", "model_mutate", "model_cross", "model_simplify"),
)
OWN_OPERATORS: tuple[Operator, ...] = (
    *("sample", "mutate", "cross", "simplify", "fit"),
)
PARENTS: Mapping[Operator, int] = {
    "model_fresh": 0,
    "model_mutate": 1,
    "model_cross": 2,
    "model_simplify": 1,
    "sample": 0,
    "mutate": 1,
    "cross": 2,
    "simplify": 1,
    "fit": 1,
}
"""How many parents an operator needs."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an operator gave for one slot: a program, or why there is none.

    Args:
        id: ``r1-c03``, round and slot.
        round: from 0.
        slot: place in the round, from 0.
        operator: who proposed it.
        parents: ids of the candidates that it was made from.
        tree: the program, None after a failure.
        source: its text, as the model wrote it or as the language prints it.
        plan: one phrase that says what was meant or changed.
        failure: why there is no program.
        screening: what the screen measured on the bank.
        call_key: content hash of the model's call, where there was one.
    """

    id: str
    round: int
    slot: int
    operator: Operator
    parents: tuple[str, ...] = ()
    tree: Tree | None = None
    source: str | None = None
    plan: str | None = None
    failure: Failure | None = None
    screening: Mapping[str, Any] | None = None
    call_key: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """True score of a candidate: one number per training seed, never the proxy.

    Args:
        fitness: mean true score of each training, by seed.
        success: success rate of each training, by seed.
        statistics: text on how its terms behaved, for the next prompt.
        shares: share of every term in the designed return, by name.
        complete: whether it was trained for the whole budget; one that lost its race
            was not, and cannot be chosen.
    """

    fitness: Mapping[int, float]
    success: Mapping[int, float]
    statistics: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True

    @property
    def mean(self) -> float:
        """Mean fitness over the seeds."""
        return sum(self.fitness.values()) / len(self.fitness)

    @property
    def mean_success(self) -> float:
        """Mean success rate over the seeds."""
        return sum(self.success.values()) / len(self.success)

    def joined(self, other: Score) -> Score:
        """The same candidate with more seeds."""
        return Score(
            {**self.fitness, **other.fitness},
            {**self.success, **other.success},
            self.statistics,
            self.shares,
            self.complete and other.complete,
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate with its true score."""

    proposal: Proposal
    score: Score

    @property
    def id(self) -> str:
        """Id of the proposal."""
        return self.proposal.id
