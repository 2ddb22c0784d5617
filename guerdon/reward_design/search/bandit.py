"""Which operator gets the next slot: Thompson sampling on what paid so far.

Each operator keeps a Beta posterior of its payoff. The payoff of a candidate is the
share of the candidates trained before it that it beats by true score, 0 if it
failed; so it needs no scale and the operators stay comparable from task to task.

Reference: Thompson (1933); for payoffs in [0, 1] instead of {0, 1} the posterior is
updated with fractions, which keeps its mean and is the usual practice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

Arm = TypeVar("Arm", bound=str)


@dataclass
class Bandit(Generic[Arm]):
    """Beta-Thompson over named arms.

    Args:
        arms: what there is to choose from, at least one.
        discount: what is left of the old evidence at each new payoff; the best
            operator of the first rounds is seldom the best of the last ones.

    Raises:
        ValueError: for no arms or a discount outside (0, 1].
    """

    arms: Sequence[Arm]
    discount: float = 0.97
    wins: dict[Arm, float] = field(init=False)
    losses: dict[Arm, float] = field(init=False)

    def __post_init__(self) -> None:
        if not self.arms:
            raise ValueError("bandit: expected at least one arm, got none")
        if not 0.0 < self.discount <= 1.0:
            raise ValueError(
                f"bandit: expected a discount in (0, 1], got {self.discount}"
            )
        self.wins = dict.fromkeys(self.arms, 1.0)
        self.losses = dict.fromkeys(self.arms, 1.0)

    def choose(
        self, rng: np.random.Generator, allowed: Sequence[Arm] | None = None
    ) -> Arm:
        """Draw a payoff for every arm and take the largest."""
        arms = list(self.arms if allowed is None else allowed)
        draws = [rng.beta(self.wins[arm], self.losses[arm]) for arm in arms]
        return arms[int(np.argmax(draws))]

    def update(self, arm: Arm, payoff: float) -> None:
        """Tell what one use of ``arm`` paid, in [0, 1].

        Raises:
            ValueError: for a payoff outside [0, 1].
        """
        if not 0.0 <= payoff <= 1.0:
            raise ValueError(f"bandit: expected a payoff in [0, 1], got {payoff}")
        self.wins[arm] = 1.0 + self.discount * (self.wins[arm] - 1.0) + payoff
        self.losses[arm] = 1.0 + self.discount * (self.losses[arm] - 1.0) + 1.0 - payoff

    def means(self) -> dict[Arm, float]:
        """Expected payoff of every arm."""
        return {a: self.wins[a] / (self.wins[a] + self.losses[a]) for a in self.arms}
