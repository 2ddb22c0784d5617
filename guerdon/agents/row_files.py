"""Policies with a memory on disk, which are rows of a population and nothing of SB3's.

The file is that of ``policies`` with another name of the format: the same header, and
the weights of the row under the names that they have there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors.torch import save
from torch import Tensor

from guerdon.agents.networks import Architecture, first_weights
from guerdon.agents.normalize import EPSILON, LIMIT
from guerdon.agents.ppo_config import PPOConfig
from guerdon.agents.recipes import Recipe
from guerdon.agents.row_policy import RowPolicy
from guerdon.agents.training import TrainingJob
from guerdon.envs.task import Task
from guerdon.faults import whole_file

ROW_FORMAT = "guerdon-row-policy-1"
"""Name of the file format; the number grows when its reading changes."""


def save_row_policy(
    path: Path, policy: RowPolicy, job: TrainingJob, recipe: Recipe, told: list[str]
) -> None:
    """Write a row's policy, complete or not at all.

    Args:
        path: the file; its folder exists.
        policy: network and observation statistics.
        job: the training that made it.
        recipe: the hyper-parameters that the network was built from.
        told: what it takes and gives, in words.

    Raises:
        OSError: when it cannot be written.
    """
    tensors = {f"row.{name}": value for name, value in policy.weights.items()}
    header: dict[str, Any] = {
        "format": ROW_FORMAT,
        "job": json.loads(job.to_json()),
        "recipe": asdict(recipe),
        "spaces": told,
        "normalizer": None,
    }
    if policy.moments is not None:
        header["normalizer"] = {"epsilon": EPSILON, "limit": LIMIT}
        for name, values in zip(("mean", "var"), policy.moments, strict=True):
            tensors[f"normalizer.{name}"] = torch.from_numpy(values)
    whole = {name: value.contiguous() for name, value in tensors.items()}
    with whole_file(path) as partial:
        partial.write_bytes(save(whole, metadata={"guerdon": json.dumps(header)}))


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
