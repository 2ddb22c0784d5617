"""How a trained policy lies on disk: weights as safetensors, the rest as JSON in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors.torch import save
from torch import Tensor

from guerdon.agents.normalize import normalized
from guerdon.agents.recipes import Recipe
from guerdon.agents.training import TrainingJob
from guerdon.types import ActionSpec

FORMAT = "guerdon-policy-1"
"""A network of SB3; the number grows when its reading changes."""

ROW_FORMAT = "guerdon-row-policy-2"
"""A row of a population that SB3 has no network for, under its own names."""


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Running statistics of observations, frozen.

    ``clip((x - mean) / sqrt(var + epsilon), -limit, limit)``
    """

    mean: np.ndarray
    var: np.ndarray
    epsilon: float
    limit: float

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """``(N, *shape)`` observations as the network was trained on them."""
        return normalized(observations, self.mean, self.var, self.epsilon, self.limit)


def file_bytes(
    kind: str,
    weights: Mapping[str, Tensor],
    normalizer: Normalizer | None,
    job: TrainingJob,
    recipe: Recipe,
    told: list[str],
) -> bytes:
    """What stands in the file of a policy.

    Args:
        kind: name of the format.
        weights: by their names in the file.
        normalizer: statistics of observations, if they are normalised.
        job: the training that made it.
        recipe: the hyper-parameters that the network was built from.
        told: what it takes and gives, ``in_words``.
    """
    whole = torch.contiguous_format  # views of one storage would be refused
    tensors = {n: value.clone(memory_format=whole) for n, value in weights.items()}
    header: dict[str, Any] = {
        "format": kind,
        "job": json.loads(job.to_json()),
        "recipe": asdict(recipe),
        "spaces": told,
        "normalizer": None,
    }
    if normalizer is not None:
        tensors["normalizer.mean"] = torch.from_numpy(normalizer.mean)
        tensors["normalizer.var"] = torch.from_numpy(normalizer.var)
        header["normalizer"] = {
            "epsilon": normalizer.epsilon,
            "limit": normalizer.limit,
        }
    return save(tensors, metadata={"guerdon": json.dumps(header)})


def in_words(
    observation: spaces.Space[Any], action: spaces.Space[Any] | ActionSpec
) -> list[str]:
    """What a network takes and gives, for people and for comparing."""
    if isinstance(action, ActionSpec):
        choices = action.size if action.kind == "discrete" else None
        shape: tuple[int, ...] | None = (action.size,)
    else:
        choices = int(action.n) if isinstance(action, spaces.Discrete) else None
        shape = action.shape
    does = f"actions of shape {shape}" if choices is None else f"{choices} choices"
    return [f"observations of shape {observation.shape}", does]
