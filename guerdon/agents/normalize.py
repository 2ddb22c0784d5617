"""Running scales of rewards and observations per row, as SB3's ``VecNormalize``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

FIRST_COUNT = 1e-4
"""Samples that the first variance of 1 counts for."""

EPSILON = 1e-8
LIMIT = 10.0
"""Scaled numbers are cut off here."""

State = dict[str, Tensor]

ALL = slice(None)


class RewardScale:
    """Divides rewards by the running deviation of their discounted sum.

    ``clip(r_t / sqrt(var(R) + epsilon), -limit, limit)`` with
    ``R_t = discount * R_tm1 + r_t``, which begins anew where an episode ends. The
    variance at step t counts step t and all before it.

    Args:
        rows: number of rows, each with its own scale.
        envs: environments of a row.
        discount: of the sum.
        device: where the numbers are.
    """

    def __init__(
        self, rows: int, envs: int, discount: float, device: torch.device
    ) -> None:
        self.discount = discount
        self.state: State = {
            "mean": torch.zeros(rows, dtype=torch.float64, device=device),
            "var": torch.ones(rows, dtype=torch.float64, device=device),
            "count": torch.full(
                (rows,), FIRST_COUNT, dtype=torch.float64, device=device
            ),
            "sum": torch.zeros(rows, envs, dtype=torch.float64, device=device),
        }

    def __call__(self, rewards: Tensor, ended: Tensor) -> Tensor:
        """Scale a block and learn from it.

        Args:
            rewards: ``(T, R, N)`` finite.
            ended: ``(T, R, N)`` bool; all False for a stream without episodes.

        Returns:
            ``(T, R, N)`` float32.
        """
        state = self.state
        rewards = rewards.double()
        keep = (~ended).double() * self.discount
        total, sums = state["sum"], []
        for reward, kept in zip(rewards.unbind(), keep.unbind(), strict=True):
            total = total + reward
            sums.append(total)
            total = total * kept
        state["sum"] = total
        returns = torch.stack(sums)
        # All running variances of the block at once, around the mean so far, so that
        # large means cost no digits.
        size = returns.shape[-1]
        old = state["count"]
        shift = state["mean"][:, None]
        moved = (returns - shift).sum(-1).cumsum(0)
        squares = (returns - shift).square().sum(-1).cumsum(0)
        steps = torch.arange(1, len(returns) + 1, device=rewards.device)
        count = old + size * steps[:, None]
        shifted = moved / count
        var = (old * state["var"] + squares) / count - shifted.square()
        state["mean"] = state["mean"] + shifted[-1]
        state["var"], state["count"] = var[-1], count[-1]
        scaled = rewards / (var + EPSILON).sqrt()[..., None]
        return scaled.clamp(-LIMIT, LIMIT).float()


class ObservationScale:
    """Subtracts the running mean of a row's observations, divides by their deviation.

    Args:
        rows: number of rows, each with its own scale.
        shape: of one observation.
        device: where the numbers are.
    """

    def __init__(self, rows: int, shape: tuple[int, ...], device: torch.device) -> None:
        self.state: State = {
            "mean": torch.zeros(rows, *shape, dtype=torch.float64, device=device),
            "var": torch.ones(rows, *shape, dtype=torch.float64, device=device),
            "count": torch.full(
                (rows,), FIRST_COUNT, dtype=torch.float64, device=device
            ),
        }

    def update(self, obs: Tensor, rows: slice = ALL) -> None:
        """Learn from a step of some rows, ``(R, N, *shape)``."""
        state, obs = self.state, obs.double()
        size = obs.shape[1]
        batch_var, batch_mean = torch.var_mean(obs, 1, correction=0)
        count = state["count"][rows].view(-1, *(1,) * (obs.dim() - 2))
        delta = batch_mean - state["mean"][rows]
        total = count + size
        moment = state["var"][rows] * count + batch_var * size
        moment += delta.square() * count * size / total
        state["mean"][rows] += delta * size / total
        state["var"][rows] = moment / total
        state["count"][rows] += size

    def __call__(self, obs: Tensor, rows: slice = ALL) -> Tensor:
        """``(R, N, *shape)`` of some rows as the networks see them, float32."""
        mean, var = self.state["mean"][rows], self.state["var"][rows]
        return _scaled(obs, mean.unsqueeze(1), var.unsqueeze(1))

    def of_lanes(self, obs: Tensor, rows: np.ndarray) -> Tensor:
        """``(M, *shape)`` of lanes that belong to ``rows``, ``(M,)``."""
        return _scaled(obs, self.state["mean"][rows], self.state["var"][rows])


def normalized(
    obs: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    epsilon: float = EPSILON,
    limit: float = LIMIT,
) -> np.ndarray:
    """``clip((obs - mean) / sqrt(var + epsilon), -limit, limit)``, float32.

    What ``ObservationScale`` does, with statistics that no longer change.
    """
    result: np.ndarray = (obs - mean) / np.sqrt(var + epsilon)
    return result.clip(-limit, limit).astype(np.float32)


def _scaled(obs: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    scaled = (obs.double() - mean) / (var + EPSILON).sqrt()
    return scaled.clamp(-LIMIT, LIMIT).float()


def select(state: State, rows: Sequence[int]) -> None:
    """Keep some rows of a state, in the order given."""
    for name, values in state.items():
        state[name] = values[list(rows)]


def restart(state: State, row: int) -> None:
    """Forget what one row has seen."""
    fresh = {"mean": 0.0, "var": 1.0, "count": FIRST_COUNT, "sum": 0.0}
    for name, values in state.items():
        values[row] = fresh[name]
