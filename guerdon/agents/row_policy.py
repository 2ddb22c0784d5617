"""A row of a population as a policy that can be evaluated and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from guerdon.agents.layers import Scratch
from guerdon.agents.networks import Architecture, Weights, act
from guerdon.agents.normalize import normalized
from guerdon.types import ActionSpec

if TYPE_CHECKING:
    from guerdon.agents.ppo import Population


class RowPolicy:
    """What one row would do, apart from the population and its training.

    It knows of no masks of actions; ``evaluate_rows`` plays under those of its env.

    Args:
        arch: what its network looks like.
        weights: of the row, ``(1, ...)`` each.
        action: gives the bounds of its numbers.
        moments: mean and variance of observations, if they are normalised.
    """

    def __init__(
        self,
        arch: Architecture,
        weights: Weights,
        action: ActionSpec,
        moments: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.arch, self.weights, self.action = arch, weights, action
        self.moments = moments
        self._memory: dict[int, Tensor] = {}
        self._scratch = Scratch()

    def predict(
        self,
        observations: np.ndarray,
        *,
        deterministic: bool,
        rng: np.random.Generator,
        episodes: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Actions for a batch; see ``evaluate.Policy``.

        Args:
            observations: ``(B, *shape)``.
            deterministic: the most likely action instead of a drawn one.
            rng: the only source of randomness.
            episodes: ``(B,)`` numbers of the episodes that they belong to; a policy
                with a memory needs them, and forgets an episode that is not asked
                about. Its first observation after ``forget`` begins an episode.

        Raises:
            ValueError: when a memory is not told the episodes.
        """
        policy = self._say(self._scaled(observations), episodes)
        if not self.arch.continuous:
            if not deterministic:
                policy = policy + rng.gumbel(size=policy.shape)
            choices: np.ndarray = policy.argmax(-1)
            return choices
        if not deterministic:
            std = self.weights["log_std"][0].exp().numpy()
            policy = policy + std * rng.standard_normal(policy.shape)
        low, high = self.action.low, self.action.high
        chosen = np.clip(policy, low, high) if low else policy
        numbers: np.ndarray = chosen.astype(np.float32)
        return numbers

    def forget(self) -> None:
        """Other episodes are to come, whatever their numbers."""
        self._memory = {}

    def _scaled(self, observations: np.ndarray) -> Tensor:
        if self.moments is not None:
            observations = normalized(observations, *self.moments)
        if observations.dtype != np.uint8:
            observations = observations.astype(np.float32, copy=False)
        return torch.from_numpy(np.ascontiguousarray(observations))[None]

    def _say(self, obs: Tensor, episodes: Sequence[int] | None) -> np.ndarray:
        state = starts = None
        if self.arch.memory:
            if episodes is None or len(episodes) != obs.shape[1]:
                raise ValueError(
                    "a policy with a memory: expected the number of each observation's "
                    "episode"
                )
            empty = torch.zeros(self.arch.memory)
            state = torch.stack([self._memory.get(e, empty) for e in episodes])[None]
            starts = torch.zeros(obs.shape[:2], dtype=torch.bool)
        with torch.inference_mode():
            policy, state = act(
                self.arch, self.weights, obs, state, starts, self._scratch
            )
        if state is not None and episodes is not None:
            self._memory = dict(zip(episodes, state[0], strict=True))
        return policy[0].numpy()


def row_policy(population: Population, row: int) -> RowPolicy:
    """A copy of a row's network and observation scale."""
    weights, moments = networks_of(population, slice(row, row + 1))
    if moments is not None:
        moments = moments[0][0], moments[1][0]
    return RowPolicy(population.arch, weights, population.env.action, moments)


def networks_of(
    population: Population, rows: slice = slice(None)
) -> tuple[Weights, tuple[np.ndarray, np.ndarray] | None]:
    """Copies on the CPU of some rows' weights and observation moments, if any."""
    weights = {name: _copied(value, rows) for name, value in population.weights.items()}
    if population.acting.obs_scale is None:
        return weights, None
    state = population.acting.obs_scale.state
    mean, var = (_copied(state[name], rows).numpy() for name in ("mean", "var"))
    return weights, (mean, var)


def _copied(value: Tensor, rows: slice) -> Tensor:
    return value.detach()[rows].cpu().clone()
