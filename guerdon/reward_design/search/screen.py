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

``screen_many`` scores programs together in one pass over the bank
(``language/block.py``); one candidate is a batch of one, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from guerdon.reward_design.language import Tree, parse
from guerdon.reward_design.language.block import AllScores, BlockPrograms, check_task
from guerdon.reward_design.language.edit import canonical
from guerdon.reward_design.language.lower import Line, lower
from guerdon.reward_design.language.tree import Rejected
from guerdon.reward_design.search.bank import Bank
from guerdon.types import Failure

DUPLICATE = 1e-4
"""Relative distance on the bank below which two rewards are the same reward."""

MOST_COMPARED = 1000
"""Episodes whose returns are compared in pairs; more are thinned evenly."""

TOGETHER = 64
"""Programs scored in one pass; what they share grows slowly, the memory does not."""


@dataclass(frozen=True, slots=True)
class Screening:
    """What the screen measured; None where the bank cannot say.

    Args:
        rank: Kendall's tau of designed and true return, -1 to 1.
        preference: share of ordered pairs of episodes in the right order, 0 to 1.
        farming: largest return of the own terms in an episode that failed.
        active: share of transitions on which the candidate's terms are not 0.
        shares: mean magnitude of each term as a share of all.
        low: smallest sum of the candidate's own terms in a transition of the bank.
        high: the largest.
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
    """``(M,)`` float32, designed reward of the candidate's terms on the bank."""

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
    return screen_many([tree], bank, discount)[0]


def screen_many(
    programs: Sequence[Tree], bank: Bank, discount: float = 0.99
) -> list[Screened | Failure]:
    """Score programs on the bank together.

    Args:
        programs: the candidates' terms, any number.
        bank: logged episodes of the same task.
        discount: of the returns that are compared.

    Returns:
        For each program what ``screen`` gives for it, number for number. A signature
        takes four bytes a transition: keep those of the programs that are used.

    Raises:
        ValueError: for a program of another task.
    """
    check_task(programs, bank.task.layout, bank.task.action)
    found: list[Screened | Failure | None] = [None] * len(programs)
    ruler = _Ruler(bank, discount)
    valid: list[tuple[int, Tree, Line]] = []
    for place, tree in enumerate(programs):
        line = _lowered(tree)
        if isinstance(line, Failure):
            found[place] = line
        else:
            valid.append((place, tree, line))
    for first in range(0, len(valid), TOGETHER):
        places, trees, lines = zip(*valid[first : first + TOGETHER], strict=True)
        block = BlockPrograms(trees, lines, "numpy")
        scores, _ = block.score_all(block.init_all(1), bank.batch, terms=True)
        for place, one in zip(places, _judged(ruler, block, scores), strict=True):
            found[place] = one
    return [one for one in found if one is not None]


def _lowered(tree: Tree) -> Line | Failure:
    """The program as a straight line, or why it is none that can be screened."""
    if not _depends_on_anything(tree):
        return Failure(
            "constant", "no term depends on a feature or the action, so nothing is told"
        )
    try:
        return lower(tree)
    except Rejected as error:
        return error.failure


def _judged(
    ruler: _Ruler, block: BlockPrograms, scores: AllScores
) -> list[Screened | Failure]:
    """The screenings of programs that were scored."""
    assert scores.distinct is not None
    sizes = np.abs(scores.distinct).mean(axis=(1, 2), dtype=np.float64)
    found: list[Screened | Failure] = []
    for k, names in enumerate(block.names):
        bad = scores.failures[k]
        if bad is not None:
            reason = f"term {bad!r} is not finite on logged steps"
            if spoilt := _spoilt(ruler.bank):
                reason += f", where the task's features are not finite either: {spoilt}"
            found.append(Failure("non_finite", reason))
            continue
        own = scores.total[k, :, 0].copy()  # a view would keep all programs' rewards
        magnitude = sizes[list(scores.places[k])]
        found.append(Screened(_measure(ruler, names, magnitude, own), own))
    return found


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


class _Ruler:
    """What every program is measured against: the bank's episodes and their order."""

    def __init__(self, bank: Bank, discount: float) -> None:
        self.bank = bank
        self.weight = discount ** np.asarray(bank.time, np.float64)
        self.sparse = self.sums(sparse_rewards(bank) * self.weight)
        fitness = np.array(bank.fitness)
        (known,) = np.nonzero(np.isfinite(fitness))
        if len(known) > MOST_COMPARED:
            known = known[np.linspace(0, len(known) - 1, MOST_COMPARED).astype(int)]
        self.known = known
        self.better = fitness[known, None] > fitness[None, known]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """``(E,)`` sum over each episode."""
        episodes = len(self.bank.episodes)
        return np.bincount(self.bank.index, values, minlength=episodes)

    def order(self, own: np.ndarray) -> tuple[float | None, float | None]:
        """Kendall's tau-b and the share of pairs in the right order."""
        returns = (self.sums(own * self.weight) + self.sparse)[self.known]
        better, fine = self.better, np.isfinite(returns)
        if not fine.all():
            returns, better = returns[fine], better[np.ix_(fine, fine)]
        pairs = np.count_nonzero(better)
        if not pairs:
            return None, None
        right = np.count_nonzero(better & (returns[:, None] > returns[None, :]))
        wrong = np.count_nonzero(better & (returns[:, None] < returns[None, :]))
        preference = (right + 0.5 * (pairs - right - wrong)) / pairs
        _, times = np.unique(returns, return_counts=True)
        apart = (len(returns) ** 2 - int((times**2).sum())) // 2
        if not apart:
            return None, preference
        return float((right - wrong) / np.sqrt(float(pairs) * apart)), preference

    def farming(self, own: np.ndarray) -> float | None:
        """Best undiscounted return of the own terms among failed whole episodes."""
        if not self.bank.failed.any():
            return None
        return float(self.sums(own)[self.bank.failed].max())


def _measure(
    ruler: _Ruler, names: tuple[str, ...], magnitude: np.ndarray, own: np.ndarray
) -> Screening:
    total = magnitude.sum()
    shares = magnitude / total if total > 0 else np.zeros_like(magnitude)
    rank, preference = ruler.order(own)
    return Screening(
        rank=rank,
        preference=preference,
        farming=ruler.farming(own),
        active=float((own != 0.0).mean()),
        shares=dict(zip(names, map(float, shares), strict=True)),
        low=float(own.min()),
        high=float(own.max()),
    )


def own_sparse(bank: Bank) -> bool:
    """Whether the sparse reward is the environment's own, which pays 1 for solving."""
    return bank.task.rewards["sparse"].source is None


def sparse_rewards(bank: Bank) -> np.ndarray:
    """``(M,)`` float64, the task's sparse reward of every transition.

    It is the environment's own, or a program of the task's like that of a candidate.
    """
    task = bank.task
    source = task.rewards["sparse"].source
    if source is None:
        return np.asarray(bank.batch.reward, np.float64)[:, 0]
    tree = parse(source, task.layout, task.action)
    block = BlockPrograms((tree,), (lower(tree),), "numpy")
    scores, _ = block.score_all(block.init_all(1), bank.batch)
    return np.asarray(scores.total[0, :, 0], np.float64)
