"""Races whose legs are the pulls of a bandit; see ``race``."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from guerdon.checks import integer
from guerdon.reward_design.search.race import Leg, Race, Runner


class Pulls(Race):
    """Bandits over candidates: every leg is one pull of ``leg`` steps.

    Those that have never been pulled are pulled together; any other pull waits for the
    scores of those before it, which say whose turn it is. When nothing is left for
    pulls, the best by its last score is trained to the end, unless somebody has come
    there by pulls, since only such a one can be chosen.

    Args:
        budget: environment steps of a full training; nobody gets more.
        leg: environment steps of a pull.
        total: environment steps of all pulls; that of the last training comes on top.

    Raises:
        ValueError: for a number out of bounds.
    """

    def __init__(self, budget: int, *, leg: int, total: int) -> None:
        super().__init__(budget)
        self.leg = integer("leg", leg, 1, budget)
        self.total = integer("total", total, 1)

    @property
    def rules(self) -> dict[str, Any]:
        """Steps of a pull and of all pulls."""
        return {"leg": self.leg, "total": self.total}

    def _next(self) -> Leg | None:
        under_way = self._of("training")
        going = sum(self._stop(r) - r.steps for r in under_way)
        able = self._of("waiting", "paused")
        if not able or self.spent + going >= self.total:
            return None if under_way else self._last()
        runner = min(able, key=lambda r: (self._rank(r), r.order))
        if under_way and runner.scores:
            return None
        return Leg(runner.name, runner.steps, self._stop(runner))

    def _last(self) -> Leg | None:
        """The best by its last score goes to the end, if nobody is there yet."""
        known = self._of("paused")
        if not self.closed or not known or self._of("finished"):
            return None
        best = max(known, key=lambda r: (float(r.latest.mean()), -r.order))
        return Leg(best.name, best.steps, self.budget)

    def _stop(self, runner: Runner) -> int:
        return min(self.budget, runner.steps + self.leg)

    @abstractmethod
    def _rank(self, runner: Runner) -> float:
        """The lowest is pulled next."""

    @property
    def _range(self) -> float:
        """Spread of all mean scores so far: the unit in which bounds are given."""
        means = [s.mean() for r in self.runners.values() for s in r.scores.values()]
        spread = float(max(means) - min(means)) if means else 0.0
        return spread or 1.0

    def _mean(self, runner: Runner) -> float:
        """Mean score over its pulls."""
        return float(np.mean([s.mean() for s in runner.scores.values()]))


class UCB(Pulls):
    """Upper confidence bounds: ``mean + c range sqrt(2 ln t / n)``, untried ones first.

    Reference: Auer, Cesa-Bianchi & Fischer 2002, "Finite-time analysis of the
    multiarmed bandit problem"; as a selection rule for rewards in Zhang et al. 2024,
    "ORSO: accelerating reward design via online reward selection and policy
    optimization", arXiv:2410.13837. The range is what has been seen, since fitness has
    no fixed one.

    Args:
        budget: environment steps of a full training.
        leg: environment steps of a pull.
        total: environment steps of all pulls.
        c: weight of the bonus.
    """

    def __init__(self, budget: int, *, leg: int, total: int, c: float = 1.0) -> None:
        super().__init__(budget, leg=leg, total=total)
        self.c = c

    def _rank(self, runner: Runner) -> float:
        pulls = len(runner.scores)
        if not pulls:
            return -np.inf
        rounds = sum(len(r.scores) for r in self.runners.values())
        bonus = self.c * self._range * np.sqrt(2.0 * np.log(rounds) / pulls)
        return -(self._mean(runner) + float(bonus))


class D3RB(Pulls):
    """Doubling data-driven regret balancing, ORSO's own choice.

    The candidate with the smallest potential ``d sqrt(n)`` is pulled, ``n`` its pulls
    and ``d`` its regret coefficient. A candidate that even its own bound cannot lift
    to what another has surely reached has its coefficient doubled:

    ``mean_i + d_i / sqrt(n_i) + c_i < max_j (mean_j - c_j)`` with
    ``c_i = c range sqrt(ln(K max(1, ln n_i) / delta) / n_i)``.

    Reference: Dann, Gentile & Pacchiano 2024, "Data-driven online model selection with
    regret guarantees", AISTATS, algorithm 1; used on rewards by Zhang et al. 2024
    (ORSO). Here the score of a pull is the true score after it, and its range is what
    has been seen.

    Args:
        budget: environment steps of a full training.
        leg: environment steps of a pull.
        total: environment steps of all pulls.
        start: first regret coefficient, in units of the range of the scores.
        c: weight of the confidence bounds.
        delta: their failure probability.
    """

    def __init__(
        self,
        budget: int,
        *,
        leg: int,
        total: int,
        start: float = 1.0,
        c: float = 1.0,
        delta: float = 0.1,
    ) -> None:
        super().__init__(budget, leg=leg, total=total)
        self.start, self.c, self.delta = start, c, delta
        self.doublings: dict[str, int] = {}
        """How often the coefficient of a candidate was doubled."""

    def coefficient(self, name: str) -> float:
        """Regret coefficient ``d`` of a candidate, in units of the range."""
        return float(self.start * 2 ** self.doublings.get(name, 0))

    def _rank(self, runner: Runner) -> float:
        return self.coefficient(runner.name) * float(np.sqrt(len(runner.scores)))

    def _width(self, runner: Runner) -> float:
        pulls = len(runner.scores)
        words = len(self.runners) * max(1.0, float(np.log(pulls))) / self.delta
        return float(self.c * self._range * np.sqrt(np.log(words) / pulls))

    def _measured(self, runner: Runner) -> None:
        known = [r for r in self.runners.values() if r.scores and r.state != "failed"]
        surely = max(self._mean(r) - self._width(r) for r in known)
        regret = self.coefficient(runner.name) * self._range
        own = regret / float(np.sqrt(len(runner.scores)))
        if self._mean(runner) + own + self._width(runner) < surely:
            self.doublings[runner.name] = self.doublings.get(runner.name, 0) + 1
