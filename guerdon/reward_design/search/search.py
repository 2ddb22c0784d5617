"""The search itself, by ask and tell. It never trains and never calls a model.

    search = Search(config, model=True)
    while (requests := search.ask()):
        for request in requests:          # the caller proposes, screens and trains
            ...
        search.tell(proposals, scores)
    search.finalists(), search.ask_seeds(), search.tell_seeds(...)

Everything random comes from one generator per round, seeded by the configuration, so
a search that is told the same outcomes asks the same questions: that is what makes a
resumed run continue where it stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from guerdon.checks import integer
from guerdon.reward_design.search.archive import Archive
from guerdon.reward_design.search.bandit import Bandit
from guerdon.reward_design.search.candidate import (
    MODEL_OPERATORS,
    OWN_OPERATORS,
    PARENTS,
    Operator,
    Proposal,
    Score,
    Trained,
)
from guerdon.types import Failure


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How much is searched.

    Args:
        candidates: programs that are trained in each round.
        rounds: rounds of proposing, training and reflecting.
        search_seeds: training seeds of every candidate during the rounds.
        finalists: best candidates that get more seeds before one is chosen.
        final_seeds: most additional seeds of every finalist.
        confidence: probability of being best at which no more seeds are added.
        model_share: share of the first round that a model proposes, if there is one.
        seed: seed of everything that the search draws.

    Raises:
        ValueError: for a number out of bounds.
        TypeError: for a count that is no whole number.
    """

    candidates: int = 12
    rounds: int = 3
    search_seeds: int = 1
    finalists: int = 3
    final_seeds: int = 2
    confidence: float = 0.9
    model_share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("candidates", "rounds", "search_seeds", "finalists"), 1)
        for name, low in (least | {"final_seeds": 0, "seed": 0}).items():
            object.__setattr__(self, name, integer(name, getattr(self, name), low))
        for name in ("confidence", "model_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Request:
    """One slot of a round: who shall propose, from which parents, with which seed."""

    id: str
    round: int
    slot: int
    operator: Operator
    parents: tuple[Trained, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class SeedRequest:
    """A finalist and the training seed that it still needs."""

    candidate: Trained
    seed: int


@dataclass
class Search:
    """State of one search; see the module.

    Args:
        config: how much is searched.
        model: whether a language model may be asked.
        known: operators that a resumed search chose from, None for all. A version that
            has more of them goes on with these, or it would choose otherwise.
    """

    config: SearchConfig
    model: bool = True
    known: Collection[str] | None = None
    archive: Archive = field(default_factory=Archive)
    round: int = 0
    bandit: Bandit[Operator] = field(init=False)
    _asked: dict[str, Operator] | None = field(init=False, default=None)
    _finalists: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        arms = (*MODEL_OPERATORS, *OWN_OPERATORS) if self.model else OWN_OPERATORS
        known = [a for a in arms if self.known is None or a in self.known]
        self.bandit = Bandit(known or arms)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds of the rounds, common to all candidates."""
        return tuple(range(self.config.search_seeds))

    # --- rounds -------------------------------------------------------------

    def ask(self) -> list[Request]:
        """Slots of the next round; an empty list when all rounds are done."""
        if self.round >= self.config.rounds:
            return []
        rng = np.random.default_rng([self.config.seed, 1, self.round])
        requests = [
            self._request(slot, self._operator(slot, rng), rng)
            for slot in range(self.config.candidates)
        ]
        self._asked = {request.id: request.operator for request in requests}
        # A model is slow: the workers train the others while it writes.
        requests.sort(key=lambda r: r.operator in MODEL_OPERATORS)
        return requests

    def _operator(self, slot: int, rng: np.random.Generator) -> Operator:
        if len(self.archive) < 2:
            from_model = self.model and slot < round(
                self.config.model_share * self.config.candidates
            )
            return "model_fresh" if from_model else "sample"
        return self.bandit.choose(rng)

    def _request(
        self, slot: int, operator: Operator, rng: np.random.Generator
    ) -> Request:
        parents = tuple(self.archive.parents(PARENTS[operator], rng))
        seed = int(rng.integers(2**31))
        name = f"r{self.round + 1}-c{slot + 1:02d}"
        return Request(name, self.round, slot, operator, parents, seed)

    def tell(
        self,
        proposals: Sequence[Proposal],
        scores: Mapping[str, Score | Failure],
    ) -> None:
        """Outcomes of the round that was asked for.

        A slot that another operator had to fill pays nothing to the one that was asked:
        the model gave no program, or the parents are no programs of the language.

        Args:
            proposals: one for every request, in any order.
            scores: by id, for every proposal that has a program.

        Raises:
            RuntimeError: when nothing was asked.
            ValueError: when the proposals are not those of the requests.
            KeyError: when a program has no outcome.
        """
        asked = self._asked
        if asked is None:
            raise RuntimeError("search: tell() before ask()")
        if sorted(p.id for p in proposals) != sorted(asked):
            raise ValueError(
                f"search: expected proposals for {sorted(asked)}, got "
                f"{sorted(p.id for p in proposals)}"
            )
        outcomes = {p.id: p.failure or scores[p.id] for p in proposals}
        for proposal in sorted(proposals, key=lambda p: p.slot):
            if proposal.operator != asked[proposal.id]:
                self.bandit.update(asked[proposal.id], 0.0)
            outcome = outcomes[proposal.id]
            if isinstance(outcome, Failure):
                self.bandit.update(proposal.operator, 0.0)
            else:
                payoff = self.archive.add(Trained(proposal, outcome))
                self.bandit.update(proposal.operator, payoff)
        self.round += 1
        self._asked = None

    # --- choosing the winner --------------------------------------------------

    def finalists(self) -> list[Trained]:
        """The best candidates, best first; they stay the same once seeds are asked.

        Only one that was trained to the end can be chosen.
        """
        if self._finalists:
            return [m for m in self.archive.members if m.id in self._finalists]
        complete = [m for m in self.archive.members if m.score.complete]
        return complete[: self.config.finalists]

    def ask_seeds(self, added: int) -> list[SeedRequest]:
        """One more seed for every finalist, or none when one of them is clearly best.

        Args:
            added: how often seeds were added already.
        """
        finalists = self.finalists()
        if added >= self.config.final_seeds or not finalists:
            return []
        self._finalists = [f.id for f in finalists]
        if self.best_probability() >= self.config.confidence:
            return []
        seed = self.config.search_seeds + added
        return [SeedRequest(candidate, seed) for candidate in finalists]

    def tell_seeds(self, scores: Mapping[str, Score]) -> None:
        """True scores of the seeds that were asked for, by candidate id."""
        for candidate, score in scores.items():
            self.archive.replace(candidate, score)

    def best_probability(self, draws: int = 4000) -> float:
        """Probability that the winner (``winner``) is the best of the finalists.

        Means are taken as normal with the seeds' spread, pooled over the finalists,
        since each of them has too few seeds for a spread of its own. Finalists that
        cannot be told apart share the probability. Without any second seed there is
        no spread to judge by, and nothing is claimed.
        """
        finalists, winner = self.finalists(), self.winner()
        if winner is None or len(finalists) < 2:
            return 1.0
        scores = [np.array(list(f.score.fitness.values())) for f in finalists]
        freedom = sum(len(s) - 1 for s in scores)
        if freedom == 0:
            return 0.0
        squares = sum(float(((s - s.mean()) ** 2).sum()) for s in scores)
        spread = np.sqrt(squares / freedom)
        rng = np.random.default_rng([self.config.seed, 2])
        means = np.array([s.mean() for s in scores])
        error = spread / np.sqrt([len(s) for s in scores])
        sampled = means + error * rng.standard_normal((draws, len(scores)))
        best = sampled == sampled.max(axis=1, keepdims=True)
        place = [finalist.id for finalist in finalists].index(winner.id)
        return float((best[:, place] / best.sum(axis=1)).mean())

    def winner(self) -> Trained | None:
        """The best finalist: most seeds first, then the best mean."""
        finalists = self.finalists()
        if not finalists:
            return None
        most = max(len(f.score.fitness) for f in finalists)
        full = [f for f in finalists if len(f.score.fitness) == most]
        return max(full, key=lambda f: f.score.mean)

    def best_fresh(self) -> Trained | None:
        """The best candidate that had no parent: best of N without reflection."""
        fresh = [m for m in self.archive.members if not m.proposal.parents]
        return fresh[0] if fresh else None
