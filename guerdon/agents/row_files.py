"""Rows of a population as policies on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from gymnasium import spaces
from torch import Tensor

from guerdon.agents.coding import coding_of
from guerdon.agents.networks import Architecture, first_weights
from guerdon.agents.normalize import EPSILON, LIMIT
from guerdon.agents.policy_files import FORMAT, ROW_FORMAT, Normalizer, file_bytes
from guerdon.agents.ppo_config import PPOConfig
from guerdon.agents.recipes import Recipe
from guerdon.agents.row_policy import RowPolicy
from guerdon.agents.training import TrainingJob
from guerdon.envs.task import Task
from guerdon.faults import whole_file


def save_row_policy(
    path: Path, policy: RowPolicy, job: TrainingJob, recipe: Recipe, told: list[str]
) -> None:
    """Write a row's policy, complete or not at all.

    As a network of SB3, which ``load_policy`` makes of it, unless SB3 has none such:
    for a memory, and for images as plain numbers, which SB3 would scale.

    Args:
        path: the file; its folder exists.
        policy: network and observation statistics.
        job: the training that made it.
        recipe: the hyper-parameters that the network was built from, without
            state-dependent exploration, which a row does not have.
        told: what it takes and gives, in the words of ``in_words``.

    Raises:
        ValueError: for one that SB3 would build otherwise, or state-dependent
            exploration.
        OSError: when it cannot be written.
    """
    if policy.arch.memory or (policy.arch.encoder == "vector" and policy.arch.high):
        kind = ROW_FORMAT
        weights = {f"row.{name}": value for name, value in policy.weights.items()}
    else:
        if recipe.use_sde:
            raise ValueError(
                "SB3's file: expected a recipe without state-dependent exploration, "
                "which a row does not have; use dataclasses.replace(recipe, "
                "use_sde=False)"
            )
        kind = FORMAT
        weights = {f"network.{n}": one for n, one in sb3_weights(policy).items()}
    scale = policy.moments and Normalizer(*policy.moments, EPSILON, LIMIT)
    data = file_bytes(kind, weights, scale, job, recipe, told)
    # The library writes files too, but reports a full disk in words of its own.
    with whole_file(path) as partial:
        partial.write_bytes(data)


def filled_policy(
    task: Task,
    space: spaces.Box,
    recipe: Recipe,
    tensors: Mapping[str, Tensor],
    moments: tuple[np.ndarray, np.ndarray] | None,
) -> RowPolicy:
    """The policy of a recipe with the weights of a file, which may be anybody's.

    Args:
        task: gives its actions.
        space: what it observes.
        recipe: gives its layers.
        tensors: finite numbers by their names in the file.
        moments: mean and variance of observations, if they are normalised.

    Raises:
        ValueError: for weights of other names or shapes.
        TypeError: for a recipe with numbers of another type.
    """
    steps = recipe.n_envs * recipe.n_steps
    config = PPOConfig.from_recipe(recipe, total_steps=steps)
    arch = config.architecture(space, task.action)
    own = {
        name.removeprefix("row."): value
        for name, value in tensors.items()
        if name.startswith("row.")
    }
    _require_room(arch, sum(value.numel() for value in own.values()))
    expected = first_weights(arch, [0])
    for name in expected.keys() | own.keys():
        told, wanted = (_shape(some.get(name)) for some in (own, expected))
        if told != wanted:
            raise ValueError(f"expected {name[:80]!r} of shape {wanted}, got {told}")
    return RowPolicy(arch, own, task.action, moments)


def _require_room(arch: Architecture, numbers: int) -> None:
    """Refuse layers of more numbers than a file has, before they are made."""
    widths = (arch.inputs, *arch.hidden)
    least = sum(math.prod(pair) for pair in pairwise(widths)) + 3 * arch.memory**2
    if least > numbers:
        raise ValueError(
            f"layers of {arch.hidden} and a memory of {arch.memory} take at least "
            f"{least} numbers, and there are {numbers}"
        )


def _shape(value: Tensor | None) -> str:
    return "none" if value is None else f"{tuple(value.shape)} {value.dtype}"


def sb3_weights(policy: RowPolicy) -> dict[str, Tensor]:
    """Under SB3's names, and ``(out, in)`` where ours are ``(in, out)``."""
    arch = policy.arch
    if arch.shared or arch.encoder == "cnn" or arch.heads > 1:
        raise ValueError(
            "SB3's file: expected separate actor and critic without convolutions or "
            "intrinsic value; keep the population's checkpoint instead"
        )
    own = {name: value[0] for name, value in policy.weights.items()}
    found: dict[str, Tensor] = {}

    def layer(theirs: str, weight: Tensor, bias: Tensor) -> None:
        found[f"{theirs}.weight"] = weight.t()
        found[f"{theirs}.bias"] = bias[0]

    first = zip(
        own["first.weight"].chunk(2, 1), own["first.bias"].chunk(2, 1), strict=True
    )
    names = ("pi", "policy", "actor"), ("vf", "value", "critic")
    for (short, long, ours), (weight, bias) in zip(names, first, strict=True):
        place = 0
        if arch.encoder == "one_hot":
            extractor = f"{short}_features_extractor"
            rows = coding_of(arch.high, arch.shape).flat()
            found[f"{extractor}.weight"] = weight[rows]
            found[f"{extractor}.bias"] = bias[0]
        else:
            layer(f"mlp_extractor.{long}_net.0", weight, bias)
            place = 2
        for i in range(1, len(arch.hidden)):
            name = f"mlp_extractor.{long}_net.{place + 2 * (i - 1)}"
            layer(name, own[f"{ours}{i}.weight"], own[f"{ours}{i}.bias"])
    layer("action_net", own["action.weight"], own["action.bias"])
    layer("value_net", own["value.weight"], own["value.bias"])
    if arch.continuous:
        found["log_std"] = own["log_std"][0]
    return found
