"""Many environments of one task as tensors on a device: ``arrays`` without a host.

Kept apart from ``arrays``, which loads no torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from guerdon.envs.arrays import ArrayEnv
from guerdon.types import ActionSpec, Layout


class TensorArrays(NamedTuple):
    """``guerdon.envs.arrays.Arrays`` as tensors on the device."""

    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    features: Tensor
    first: Tensor
    final_obs: Tensor
    fitness: Tensor
    success: Tensor


@runtime_checkable
class TensorEnv(Protocol):
    """An ``ArrayEnv`` whose arrays are tensors on one device and stay there.

    Lanes, seeds and episodes are as in ``guerdon.envs.arrays.ArrayEnv``. A step only
    puts work on torch's current stream: whoever steps never waits for the device.
    """

    num_envs: int
    layout: Layout
    action: ActionSpec
    observation_space: spaces.Box
    """Of one lane; uint8, so that no number of it can be infinite."""
    horizon: int
    device: torch.device

    def reset(self, seeds: np.ndarray, lanes: np.ndarray | None = None) -> TensorArrays:
        """Begin episode 0 of a seed; seeds and lanes are NumPy's, on the host."""
        ...

    def step_unchecked(
        self, actions: Tensor, out: TensorArrays | None = None
    ) -> TensorArrays:
        """One step of every lane.

        Args:
            actions: ``(N,)`` int64 on the device, contiguous, each one possible.
            out: tensors to write to, such as rows of a rollout; None: the env's own.
        """
        ...

    def select(self, lanes: np.ndarray) -> TensorEnv:
        """The env with these lanes only, ``(M,)`` indices, in their states."""
        ...

    def close(self) -> Any:
        """Give up what is held."""
        ...


AnyEnv = ArrayEnv | TensorEnv
"""What a population acts in: arrays on the host, or tensors on a device."""
