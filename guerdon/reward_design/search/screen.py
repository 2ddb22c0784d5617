"""The screen: what can be known about a reward without training anything.

Only code that is invalid is rejected: it names nothing that changes, or gives a
number that is not finite. The rest is measured and ranked. On the bank, with ``r``
the designed reward (the task's sparse reward and the candidate's terms):

- rank: Kendall's tau-b between the designed and the true return of the episodes;
- preference: how often an episode with a better score also has the better designed
  return (CARD's trajectory preference; ties count one half);
- farming: the largest undiscounted return of the candidate's own terms in a whole
  episode that failed; where solving the task pays 1, at 1 failing pays as much;
- shares: mean magnitude of every term, as a share of all of them.

The bank comes from random play and from earlier agents, so it is biased; that is
why a bad rank sends a candidate back in the queue and never out of the search.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from guerdon.reward_design.language import Tree, compile_tree
from guerdon.reward_design.language.edit import canonical
from guerdon.reward_design.language.terms import compiled_terms
from guerdon.reward_design.language.tree import Rejected, to_source
from guerdon.reward_design.program import CLAMP
from guerdon.reward_design.search.bank import Bank
from guerdon.types import Failure, Spec

DUPLICATE = 1e-4
"""Relative distance on the bank below which two rewards are the same reward."""

MOST_COMPARED = 1000
"""Episodes whose returns are compared in pairs; more are thinned evenly."""


@dataclass(frozen=True, slots=True)
class Screening:
    """What the screen measured; None where the bank cannot say.

    Args:
        rank: Kendall's tau of designed and true return, -1 to 1.
        preference: share of ordered pairs of episodes in the right order, 0 to 1.
        farming: largest return of the own terms in an episode that failed.
        active: share of transitions on which the candidate's terms are not 0.
        shares: mean magnitude of each term as a share of all.
        low: smallest designed reward on the bank.
        high: largest designed reward on the bank.
    """

    rank: float | None
    preference: float | None
    farming: float | None
    active: float
    shares: dict[str, float]
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """Plain data for the journal."""
        return asdict(self)

    @property
    def promise(self) -> float:
        """One number to order candidates by; higher goes first.

        A reward that pays for failing is worse than none (research: a farmed dense
        reward trains to 0), and one that never fires cannot help.
        """
        value = 0.5 if self.preference is None else self.preference
        if self.farming is not None:
            value -= 0.5 * float(np.clip(self.farming, 0.0, 1.0))
        return value + (0.1 if self.active > 0 else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """A screening and the designed rewards it stands on, for finding duplicates."""

    screening: Screening
    signature: np.ndarray
    """``(M,)`` designed reward of the candidate's terms on the bank."""

    def same_as(self, other: np.ndarray) -> bool:
        """Whether another reward is the same on the bank, up to ``DUPLICATE``.

        Rewards that are 0 on the whole bank are not compared: they differ where the
        bank has not been.
        """
        size = float(np.linalg.norm(self.signature))
        if size == 0.0 or other.shape != self.signature.shape:
            return False
        return float(np.linalg.norm(self.signature - other)) <= DUPLICATE * size


def screen(tree: Tree, bank: Bank, discount: float = 0.99) -> Screened | Failure:
    """Score a program on the bank.

    Args:
        tree: the candidate's terms.
        bank: logged episodes of the same task.
        discount: of the returns that are compared.

    Returns:
        The screening, or a ``Failure`` of class ``constant``, ``non_finite`` or
        ``slow``.
    """
    if not _depends_on_anything(tree):
        return Failure(
            "constant", "no term depends on a feature or the action, so nothing is told"
        )
    try:
        terms = compiled_terms(compile_tree(tree), to_source(tree), "numpy")
    except Rejected as error:
        return error.failure
    spec = Spec(bank.task.layout, bank.task.action, (1,), discount, bank.task.horizon)
    values, _ = terms.apply(terms.init(spec), bank.batch)
    columns = np.clip(values[:, 0], -CLAMP, CLAMP)
    if not np.isfinite(columns).all():
        name = terms.names[int(np.argmin(np.isfinite(columns).all(axis=0)))]
        reason = f"term {name!r} is not finite on logged steps"
        if spoilt := _spoilt(bank):
            reason += f", where the task's features are not finite either: {spoilt}"
        return Failure("non_finite", reason)
    own = columns.sum(axis=1)
    return Screened(_measure(bank, terms.names, columns, own, discount), own)


def _spoilt(bank: Bank) -> str:
    """Features that are not always finite on the bank."""
    rows = (bank.batch.prev, bank.batch.now)
    return ", ".join(
        feature.name
        for feature in bank.task.layout
        if not all(np.isfinite(row[feature.name]).all() for row in rows)
    )


def _depends_on_anything(tree: Tree) -> bool:
    return any(
        node.op in ("prev", "now", "action")
        for term in canonical(tree)
        for node in term.walk()
    )


def _measure(
    bank: Bank,
    names: tuple[str, ...],
    columns: np.ndarray,
    own: np.ndarray,
    discount: float,
) -> Screening:
    magnitude = np.abs(columns).mean(axis=0)
    total = magnitude.sum()
    shares = magnitude / total if total > 0 else np.zeros_like(magnitude)
    designed = own + np.asarray(bank.batch.reward)[:, 0] * _sparse_weight(bank)
    rank, preference = _order(bank, designed, discount)
    return Screening(
        rank=rank,
        preference=preference,
        farming=_farming(bank, own),
        active=float((own != 0.0).mean()),
        shares=dict(zip(names, map(float, shares), strict=True)),
        low=float(own.min()),
        high=float(own.max()),
    )


def _sparse_weight(bank: Bank) -> float:
    """1 where the sparse reward is the environment's own, else 0."""
    return 1.0 if bank.task.rewards["sparse"].source is None else 0.0


def _returns(bank: Bank, reward: np.ndarray, discount: float) -> np.ndarray:
    weighted = reward * discount**bank.time
    return np.bincount(bank.index, weighted, minlength=len(bank.episodes))


def _order(
    bank: Bank, designed: np.ndarray, discount: float
) -> tuple[float | None, float | None]:
    """Kendall's tau and the share of pairs in the right order."""
    fitness = np.array(bank.fitness)
    returns = _returns(bank, designed, discount)
    (known,) = np.nonzero(np.isfinite(fitness) & np.isfinite(returns))
    if len(known) > MOST_COMPARED:
        known = known[np.linspace(0, len(known) - 1, MOST_COMPARED).astype(int)]
    fitness, returns = fitness[known], returns[known]
    difference = np.sign(fitness[:, None] - fitness[None, :])
    if not difference.any():
        return None, None
    agree = difference * np.sign(returns[:, None] - returns[None, :])
    better = difference > 0
    preference = float((agree[better] > 0).mean() + 0.5 * (agree[better] == 0).mean())
    if np.ptp(returns) == 0.0:
        return None, preference
    from scipy import stats

    return float(stats.kendalltau(fitness, returns).statistic), preference


def _farming(bank: Bank, own: np.ndarray) -> float | None:
    """Best undiscounted return of the own terms among failed whole episodes."""
    if not bank.failed.any():
        return None
    sums = np.bincount(bank.index, own, minlength=len(bank.episodes))
    return float(sums[bank.failed].max())
