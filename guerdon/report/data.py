"""A run folder as the report sees it: read once through the journal, then measured."""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from guerdon.agents.statistics import human_normalised, interval
from guerdon.journal import (
    CandidateRecord,
    Journal,
    RoundRecord,
    Totals,
    TrainingRecord,
    furthest,
)
from guerdon.report.candidate import (
    REFERENCES,
    Candidate,
    Lineage,
    Origin,
    best_of,
    compared,
    finalists,
    lineages,
)
from guerdon.report.curves import Curves, curves_of
from guerdon.report.measure import as_estimate, as_number, dig, over_seeds
from guerdon.report.profile import profile_of
from guerdon.report.race import races_of
from guerdon.types import Estimate

_SUMMARY_KEYS = {"sparse": "sparse", "human": "human", "best-of-n": "best_of_n"}
ALONE: dict[Lineage, str] = {
    "model": "the language model alone",
    "operators": "the search's own operators alone",
    "both": "both: one changed or crossed what the other made",
}
"""Who had a hand in a candidate and in all its ancestors, in words."""

_SECRET = re.compile(r"key|secret|password|authorization|credential", re.IGNORECASE)
_COMMAND_FLAGS = (
    "llm",
    "candidates",
    "rounds",
    "steps",
    "seeds",
    "search_seeds",
    "finalists",
    "final_seeds",
    "eval_episodes",
    "algo",
    "seed",
    "trust",
    "trainer",
    "race",
    "eta",
    "rungs",
    "device",
)


@dataclass(frozen=True)
class HoldoutRow:
    """One reward on fresh seeds."""

    id: str
    label: str
    fitness: Estimate | None
    success: Estimate | None
    per_seed: tuple[float, ...]
    failed: int
    """Trainings that gave no score; they are in no mean, so they are told."""
    of: int | None = None
    """From how many candidates it was chosen, where it is the best of N."""


@dataclass(frozen=True)
class FailureClass:
    """One class of failure, how often it happened, and one example."""

    kind: str
    count: int
    example: Candidate | None


@dataclass(frozen=True)
class Maker:
    """What one operator, or one kind of author, made."""

    name: str
    origin: Origin | Lineage
    """Who wrote what an operator made; for the authors, who else had a hand in it."""
    candidates: int
    valid: int
    best: str | None
    fitness: float | None


@dataclass(frozen=True)
class Cost:
    """What the run took; None where nobody measured it."""

    prompt_tokens: float | None
    completion_tokens: float | None
    usd: float | None
    calls: Totals
    cpu_seconds: float | None
    wall_seconds: float | None
    trainings: int
    failed_trainings: int
    steps: int


class RunData:
    """Everything that a report says, as plain values.

    Args:
        folder: the run folder; only its journal is read.

    Raises:
        JournalError: when the folder has no sound journal.
    """

    def __init__(self, folder: Path) -> None:
        with Journal.open(folder, readonly=True) as journal:
            summary = journal.meta("summary")
            config = journal.meta("config")
            versions = journal.meta("versions")
            self.created = as_number(journal.meta("created"))
            self.episode = journal.meta("episode")
            self._intent = journal.meta("intent")
            self._selection = journal.meta("selection")
            self._legs = journal.trainings()
            self.trainings = furthest(self._legs)
            self.rounds: list[RoundRecord] = journal.rounds()
            self.totals = journal.totals()
            events = journal.events()
            records = journal.candidates()
        self.folder = folder
        self.finished = isinstance(summary, Mapping)
        self.summary: Mapping[str, Any] = summary if self.finished else {}
        self.config: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
        self.versions: Mapping[str, Any] = (
            versions if isinstance(versions, Mapping) else {}
        )
        self.written = time.time()
        self.profile = profile_of(self._legs, events, self.totals.seconds)
        self.races = races_of(events, self._legs, self.config)
        self._by_id = {record.id: self._candidate(record) for record in records}
        self._lineages = lineages(records)

    def _candidate(self, record: CandidateRecord) -> Candidate:
        own = tuple(
            training
            for training in self.trainings
            if training.candidate == record.id and training.purpose != "holdout"
        )
        return Candidate(record, own)

    @property
    def task(self) -> str:
        """Id of the task."""
        return str(self.summary.get("task") or self.config.get("task") or "a task")

    @property
    def intent(self) -> str | None:
        """What the agent should achieve, where it was recorded."""
        found = self.summary.get("intent") or self._intent
        return None if found is None else str(found)

    @property
    def llm(self) -> str | None:
        """The language model as it was named on the command line."""
        found = self.summary.get("llm") or self.config.get("llm")
        return None if found is None else str(found)

    @property
    def candidates(self) -> list[Candidate]:
        """Proposed candidates in order, without the reference rewards."""
        return [c for c in self._by_id.values() if c.id not in REFERENCES]

    def find(self, name: str) -> Candidate | None:
        """The candidate of this id."""
        return self._by_id.get(name)

    @cached_property
    def winner(self) -> Candidate | None:
        """The run's winner; the best so far while there is none."""
        named = dig(self.summary, "winner", "id") or dig(self._selection, "winner")
        if self.finished or named is not None:
            return self._by_id.get(str(named))
        return best_of(self.candidates)

    @property
    def best_of_n(self) -> str:
        """Id of the best candidate that was written without any reflection."""
        said = dig(self.summary, "best_of_n", "id")
        return str(said or dig(self._selection, "best_of_n") or "best-of-n")

    @property
    def fresh_candidates(self) -> int | None:
        """How many trained candidates had no parents: the N of best of N."""
        said = dig(self.summary, "best_of_n", "n")
        found = dig(self._selection, "fresh_candidates") if said is None else said
        return found if type(found) is int else None

    @property
    def probability_best(self) -> float | None:
        """Stated probability that the winner is the best of the finalists.

        None where there was nothing to compare it with.
        """
        if not compared(self._finalists, self._seeds):
            return None
        return as_number(dig(self._selection, "probability"))

    @property
    def only_finalist(self) -> bool:
        """Whether the winner was the only candidate with a true score to choose."""
        return len(self._finalists) == 1

    @property
    def _finalists(self) -> list[str]:
        return finalists(self._selection, self.trainings, self.config, self._seeds)

    @property
    def _seeds(self) -> dict[str, int]:
        """Seeds of the search of every candidate that has a true score."""
        return {c.id: c.fitness.n for c in self.candidates if c.fitness is not None}

    def holdout_trainings(self, name: str) -> list[TrainingRecord]:
        """Fresh-seed trainings of one reward."""
        return [t for t in self._trainings_of(name) if t.purpose == "holdout"]

    def _trainings_of(self, name: str) -> list[TrainingRecord]:
        own = self.best_of_n if name == "best-of-n" else name
        return [t for t in self.trainings if t.candidate in (name, own)]

    def shown_trainings(self, name: str) -> list[TrainingRecord]:
        """Trainings that stand for a reward: fresh seeds where there are any."""
        fresh = [t for t in self.holdout_trainings(name) if t.result is not None]
        if fresh:
            return fresh
        return self._trainings_of(name)

    @cached_property
    def curves(self) -> Curves:
        """Learning curves: references and winner, and the other candidates."""
        winner = None if self.winner is None else self.winner.id
        others = [c.trainings for c in self.candidates if c.id != winner]
        ids = {name: name for name in ("sparse", "best-of-n", "human")}
        if winner is not None:
            ids["winner"] = winner
        if self.best_of_n == winner:
            del ids["best-of-n"]
        return curves_of(
            others, {name: self.shown_trainings(one) for name, one in ids.items()}
        )

    @cached_property
    def holdout(self) -> list[HoldoutRow]:
        """The winner and the references on fresh seeds, winner first."""
        rows = []
        if self.winner is not None:
            label = "the winner" if self.finished else "the best so far"
            rows.append(self._holdout_row(self.winner.id, label, "winner"))
        for name, label in REFERENCES.items():
            rows.append(self._holdout_row(name, label, _SUMMARY_KEYS[name]))
        return rows

    def _holdout_row(self, name: str, label: str, key: str) -> HoldoutRow:
        said = dig(self.summary, "holdout", key)
        fresh = self.holdout_trainings(name)
        fitness = as_estimate(dig(said, "fitness")) or _interval(fresh, "fitness")
        success = as_estimate(dig(said, "success")) or _interval(fresh, "success")
        seeds = dig(said, "per_seed", "fitness")
        if not isinstance(seeds, list):
            seeds = [_score(training, "fitness") for training in fresh]
        known = tuple(x for value in seeds if (x := as_number(value)) is not None)
        failed = sum(training.result is None for training in fresh)
        of = self.fresh_candidates if name == "best-of-n" else None
        return HoldoutRow(name, label, fitness, success, known, failed, of)

    @cached_property
    def human_normalised(self) -> Estimate | None:
        """The winner's score on the scale from sparse (0) to human (1)."""
        said = as_estimate(self.summary.get("human_normalised"))
        if self.finished or said is not None:
            return said
        scores = {row.id: row.fitness for row in self.holdout}
        winner = scores.get(self.winner.id) if self.winner else None
        sparse, human = scores["sparse"], scores["human"]
        if winner is None or sparse is None or human is None:
            return None
        return as_estimate(human_normalised(winner.value, sparse.value, human.value))

    @cached_property
    def failures(self) -> list[FailureClass]:
        """Classes of failure, the most frequent first."""
        failed = [c for c in self.candidates if c.failure is not None]
        counts = Counter(_kind(candidate) for candidate in failed)
        said = self.summary.get("failures")
        if isinstance(said, Mapping):
            numbers = {str(kind): as_number(n) for kind, n in said.items()}
            counts |= Counter({k: int(n) for k, n in numbers.items() if n})
        first = {_kind(candidate): candidate for candidate in reversed(failed)}
        return [
            FailureClass(kind, count, first.get(kind))
            for kind, count in counts.most_common()
        ]

    @cached_property
    def operators(self) -> list[Maker]:
        """Operators with what each of them found, the best first."""
        names = dict.fromkeys((c.origin, c.record.operator) for c in self.candidates)
        makers = [
            _maker(
                operator,
                origin,
                [
                    c
                    for c in self.candidates
                    if (c.origin, c.record.operator) == (origin, operator)
                ],
            )
            for origin, operator in names
        ]
        return sorted(makers, key=lambda m: (m.fitness is None, -(m.fitness or 0.0)))

    @cached_property
    def origins(self) -> list[Maker]:
        """What the model and the search's own operators made alone and together."""
        return [
            _maker(
                label,
                lineage,
                [c for c in self.candidates if self.lineage(c) == lineage],
            )
            for lineage, label in ALONE.items()
        ]

    def lineage(self, candidate: Candidate) -> Lineage:
        """Who had a hand in a candidate of this run, its ancestors counted."""
        return self._lineages[candidate.id]

    @cached_property
    def genealogy(self) -> list[tuple[int, Candidate | str]]:
        """The winner and its ancestors with their distance; a bare id if unknown."""
        if self.winner is None:
            return []
        found: dict[str, int] = {}
        waiting = [(0, self.winner.id)]
        while waiting and len(found) < 40:
            distance, name = waiting.pop(0)
            if name in found:  # two parents may share an ancestor, or be hostile
                continue
            found[name] = distance
            known = self._by_id.get(name)
            if known is not None:
                waiting += [(distance + 1, parent) for parent in known.record.parents]
        return [(d, self._by_id.get(name, name)) for name, d in found.items()]

    @cached_property
    def cost(self) -> Cost:
        """Tokens, money and time."""
        tokens = self.summary.get("tokens")
        done = [t for t in self.trainings if t.result is not None]
        prompt, completion = (
            as_number(dig(tokens, name)) for name in ("prompt", "completion")
        )
        cpu = as_number(self.summary.get("cpu_seconds"))
        wall = as_number(self.summary.get("wall_seconds"))
        usd = as_number(self.summary.get("usd"))
        return Cost(
            prompt_tokens=self.totals.prompt_tokens if prompt is None else prompt,
            completion_tokens=(
                self.totals.completion_tokens if completion is None else completion
            ),
            usd=self.totals.usd if usd is None else usd,
            calls=self.totals,
            cpu_seconds=_total(t.cpu_seconds for t in self._legs)
            if cpu is None
            else cpu,
            wall_seconds=wall,
            trainings=len(done),
            failed_trainings=len(self.trainings) - len(done),
            steps=sum(t.steps for t in done),
        )

    @property
    def command(self) -> str:
        """The command that repeats the run, into a new folder."""
        words = ["guerdon", "search", self.task]
        for flag in _COMMAND_FLAGS:
            value = self.config.get(flag)
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                words += [f"--{flag.replace('_', '-')}", str(value)]
        return shlex.join([*words, "--out", f"runs/{self.folder.resolve().name}-again"])

    @property
    def public_config(self) -> dict[str, Any]:
        """The configuration without anything whose name sounds like a secret."""
        return {
            str(key): "(hidden)" if _SECRET.search(str(key)) else value
            for key, value in self.config.items()
        }


def _maker(name: str, origin: Origin | Lineage, made: list[Candidate]) -> Maker:
    best = best_of(made)
    return Maker(
        name=name,
        origin=origin,
        candidates=len(made),
        valid=sum(candidate.failure is None for candidate in made),
        best=best.id if best else None,
        fitness=best.fitness.value if best and best.fitness else None,
    )


def _kind(candidate: Candidate) -> str:
    return candidate.failure.kind if candidate.failure else ""


def _score(training: TrainingRecord, name: str) -> float | None:
    found = over_seeds([training], name)
    return None if found is None else found.value


def _interval(trainings: Iterable[TrainingRecord], name: str) -> Estimate | None:
    values = [x for t in trainings if (x := _score(t, name)) is not None]
    return interval(values) if values else None


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
