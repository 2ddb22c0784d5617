"""A candidate with everything that was measured about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from guerdon.journal import CandidateRecord, TrainingRecord
from guerdon.report.measure import dig, over_seeds
from guerdon.types import Estimate, Failure

REFERENCES = {
    "sparse": "sparse reward",
    "human": "human-designed reward",
    "best-of-n": "best one without reflection",
}
"""Ids of the rewards that the winner is compared with, in words."""

MODEL = "model_"
"""Operators of the language model begin with this."""

Origin = Literal["model", "operators", "reference"]
Lineage = Literal["model", "operators", "both"]
State = Literal["trained", "failed", "not trained"]


@dataclass(frozen=True)
class Candidate:
    """A candidate with everything that was measured about it."""

    record: CandidateRecord
    trainings: tuple[TrainingRecord, ...]
    """Search and final trainings; the holdout never mixes with what selected."""

    @property
    def id(self) -> str:
        """Its id in the journal."""
        return self.record.id

    @property
    def origin(self) -> Origin:
        """Who wrote it; a call of the model is named by its key or its operator."""
        if self.id in REFERENCES:
            return "reference"
        return "model" if by_model(self.record) else "operators"

    @property
    def full_python(self) -> bool:
        """It is no program of the language; what it says of itself is a claim."""
        screening = self.record.screening
        return isinstance(screening, Mapping) and screening.get("full_python") is True

    @cached_property
    def fitness(self) -> Estimate | None:
        """True score: mean and range over the seeds of the search."""
        return over_seeds(self.trainings, "fitness")

    @cached_property
    def success(self) -> Estimate | None:
        """Share of solved episodes: mean and range over the seeds of the search."""
        return over_seeds(self.trainings, "success")

    @cached_property
    def proxy(self) -> Estimate | None:
        """Designed reward per episode at the end of training, over seeds."""
        return over_seeds(self.trainings, "proxy")

    @property
    def failure(self) -> Failure | None:
        """Why there is no score; a candidate with one has not failed."""
        if self.record.failure is not None:
            return self.record.failure
        if self.fitness is not None:
            return None
        return next((t.failure for t in self.trainings if t.failure), None)

    @property
    def state(self) -> State:
        """Where it stands, in words."""
        if self.failure is not None:
            return "failed"
        return "trained" if self.fitness is not None else "not trained"


def by_model(record: CandidateRecord) -> bool:
    """Whether the model wrote this text, whoever wrote its parents."""
    return record.operator.startswith(MODEL) or record.call_key is not None


def lineages(records: Iterable[CandidateRecord]) -> dict[str, Lineage]:
    """Who had a hand in each candidate, itself and all its ancestors counted.

    A program that an operator crossed from the model's programs is of both. A parent
    that the journal does not know says nothing.

    Args:
        records: candidates of one run, in any order.

    Returns:
        By id: ``model`` or ``operators`` for what one of them made alone, else
        ``both``.
    """
    known = {record.id: record for record in records}
    return {name: _lineage(name, known) for name in known}


def _lineage(name: str, known: Mapping[str, CandidateRecord]) -> Lineage:
    hands: set[bool] = set()
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        record = known.get(waiting.pop())
        if record is None or record.id in seen:  # a hostile journal may have a ring
            continue
        seen.add(record.id)
        hands.add(by_model(record))
        if len(hands) == 2:
            return "both"
        waiting += record.parents
    return "model" if hands == {True} else "operators"


def finalists(
    selection: object,
    trainings: Iterable[TrainingRecord],
    config: Mapping[str, Any],
    seeds: Mapping[str, int],
) -> list[str]:
    """Ids of the candidates that the winner was chosen from.

    Args:
        selection: what the run wrote down when it chose; it names them.
        trainings: of the run. Where nothing is named, as in a run of an earlier
            version, the finalists are who got seeds of the finals.
        config: of the run; how many there could be at most, where neither tells.
        seeds: of every candidate with a true score, how many seeds selected it.
    """
    named = dig(selection, "finalists")
    if isinstance(named, list):
        return [name for name in named if isinstance(name, str) and name in seeds]
    final = {
        training.candidate for training in trainings if training.purpose == "final"
    }
    if final:
        return sorted(final & seeds.keys())
    most = config.get("finalists")
    longest = sorted(seeds, key=lambda name: -seeds[name])
    return longest[:most] if isinstance(most, int) else longest


def compared(finalists: Sequence[str], seeds: Mapping[str, int]) -> bool:
    """Whether the winner was told apart from others by more than one seed.

    Args:
        finalists: whom it was chosen from.
        seeds: of every candidate with a true score, how many seeds selected it.

    Returns:
        False where nothing can be said about them, because there was one alone, or no
        second seed of any: without it there is no spread to compare the means with.
    """
    return len(finalists) > 1 and max(seeds[name] for name in finalists) > 1


def best_of(candidates: Iterable[Candidate]) -> Candidate | None:
    """The candidate with the highest true score; None when none has one."""
    scored = [c for c in candidates if c.fitness is not None]
    return max(scored, key=lambda c: c.fitness or (0.0,), default=None)
