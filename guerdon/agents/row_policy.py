"""A row of a population as a policy that can be evaluated and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from guerdon.agents.networks import Architecture, Weights, act
from guerdon.agents.normalize import EPSILON, LIMIT
from guerdon.agents.recipes import Recipe
from guerdon.envs.task import Task
from guerdon.types import ActionSpec

if TYPE_CHECKING:
    from guerdon.agents.policies import TorchPolicy
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
            mean, var = self.moments
            observations = (observations - mean) / np.sqrt(var + EPSILON)
            observations = observations.clip(-LIMIT, LIMIT)
        if observations.dtype != np.uint8:
            observations = observations.astype(np.float32)
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
            policy, state = act(self.arch, self.weights, obs, state, starts)
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


def sb3_policy(policy: RowPolicy, task: Task, recipe: Recipe) -> TorchPolicy:
    """The same policy as a network of SB3, which ``save_policy`` writes.

    Args:
        policy: with an actor and a critic of its own, and no convolutions or memory.
        task: whose spaces it acts in.
        recipe: with the layers of the policy.

    Raises:
        ValueError: for a network that SB3 would build otherwise.
    """
    from guerdon.agents.policies import claimed_policy

    arch = policy.arch
    if recipe.use_sde:
        raise ValueError(
            "SB3's file: expected a recipe without state-dependent exploration, which "
            "a row does not have; use dataclasses.replace(recipe, use_sde=False)"
        )
    if arch.shared or arch.memory or arch.encoder == "cnn" or arch.heads > 1:
        raise ValueError(
            "SB3's file: expected separate actor and critic without convolutions, "
            "memory or intrinsic value; keep the population's checkpoint instead"
        )
    tensors = {f"network.{name}": value for name, value in _sb3_weights(policy)}
    if policy.moments is not None:
        for name, values in zip(("mean", "var"), policy.moments, strict=True):
            tensors[f"normalizer.{name}"] = torch.from_numpy(values)
    whole = {name: value.contiguous() for name, value in tensors.items()}
    return claimed_policy(save(whole), task, recipe)


def _sb3_weights(policy: RowPolicy) -> list[tuple[str, Tensor]]:
    """SB3's names, and its ``(out, in)`` where ours are ``(in, out)``."""
    arch = policy.arch
    own = {name: value[0] for name, value in policy.weights.items()}
    found: list[tuple[str, Tensor]] = []

    def layer(theirs: str, weight: Tensor, bias: Tensor) -> None:
        found.extend([(f"{theirs}.weight", weight.t()), (f"{theirs}.bias", bias[0])])

    first = zip(
        own["first.weight"].chunk(2, 1), own["first.bias"].chunk(2, 1), strict=True
    )
    names = ("pi", "policy", "actor"), ("vf", "value", "critic")
    for (short, long, ours), (weight, bias) in zip(names, first, strict=True):
        place = 0
        if arch.encoder == "one_hot":
            extractor = f"{short}_features_extractor"
            found.extend([(f"{extractor}.weight", weight.clone())])
            found.extend([(f"{extractor}.bias", bias[0].clone())])
        else:
            layer(f"mlp_extractor.{long}_net.0", weight, bias)
            place = 2
        for i in range(1, len(arch.hidden)):
            name = f"mlp_extractor.{long}_net.{place + 2 * (i - 1)}"
            layer(name, own[f"{ours}{i}.weight"], own[f"{ours}{i}.bias"])
    layer("action_net", own["action.weight"], own["action.bias"])
    layer("value_net", own["value.weight"], own["value.bias"])
    if arch.continuous:
        found.append(("log_std", own["log_std"][0]))
    return found
