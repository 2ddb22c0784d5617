"""Gradient steps of many rows at once, each with its own norm, rate and count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from guerdon.agents.networks import Weights

BETAS = (0.9, 0.999)

VECTOR = 64
"""Numbers that a processor works on at once, at most."""


def clip_rows(grads: Sequence[Tensor], limit: float) -> Tensor:
    """Scale every row's gradient to a norm of at most ``limit``, in place.

    Args:
        grads: one per weight, ``(R, ...)``.
        limit: largest norm over all weights of a row.

    Returns:
        ``(R,)`` norms before; a row whose norm is not finite is left for the caller.
    """
    norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
    # Along the last axis, where the order of the sum does not depend on the rows.
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms, 1), dim=1)
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *(1,) * (grad.dim() - 1)))
    return norm


class StackedAdam:
    """Adam on stacked weights, which is R independent Adams.

    Rows may be of different age: each counts its own steps for the bias correction.

    Args:
        weights: by name, ``(R, ...)``.
        epsilon: added to the deviation.

    Reference: Kingma and Ba, "Adam" (ICLR 2015), algorithm 1.
    """

    def __init__(self, weights: Weights, epsilon: float = 1e-5) -> None:
        self.epsilon = epsilon
        self.mean = {name: torch.zeros_like(w.detach()) for name, w in weights.items()}
        self.square = {
            name: torch.zeros_like(w.detach()) for name, w in weights.items()
        }
        rows = len(next(iter(weights.values())))
        self.steps = np.zeros(rows, np.int64)

    def step(
        self,
        weights: Weights,
        grads: Sequence[Tensor],
        active: np.ndarray,
        rates: np.ndarray,
    ) -> None:
        """Move the active rows; the others stay as they are.

        Args:
            weights: by name, changed in place.
            grads: in their order.
            active: ``(R,)`` bool.
            rates: ``(R,)`` step sizes.
        """
        moved = np.flatnonzero(active)
        if not len(moved):
            return
        tensors = [list(weights.values()), list(grads)]
        tensors += [list(self.mean.values()), list(self.square.values())]
        ages, speeds = {*self.steps[moved].tolist()}, {*rates[moved].tolist()}
        with torch.no_grad():
            if len(ages) == 1 == len(speeds):
                # All rows at once, and what rests is put back: a few copies, where
                # rows one by one are hundreds of small calls in every step.
                resting = torch.from_numpy(np.flatnonzero(~active))
                changed = tensors[0] + tensors[2] + tensors[3]
                kept = [one[resting] for one in changed] if len(resting) else []
                self._apply(tensors, [ages.pop()] * len(grads), speeds.pop())
                for tensor, values in zip(changed, kept, strict=False):
                    tensor[resting] = values
            else:
                for rate in np.unique(rates[moved]):
                    rows = moved[rates[moved] == rate]
                    slices = [_sliced(one, rows) for one in tensors]
                    self._apply(slices, np.tile(self.steps[rows], len(grads)), rate)
        self.steps[moved] += 1

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows, in the order given."""
        for moments in (self.mean, self.square):
            for name, value in moments.items():
                moments[name] = value[list(rows)]
        self.steps = self.steps[list(rows)]

    def restart(self, row: int) -> None:
        """Forget what one row has done."""
        for moments in (self.mean, self.square):
            for value in moments.values():
                value[row] = 0.0
        self.steps[row] = 0

    def _apply(
        self,
        tensors: list[list[Tensor]],
        steps: Sequence[int] | np.ndarray,
        rate: float,
    ) -> None:
        device = tensors[0][0].device
        counts = torch.tensor(steps, dtype=torch.float32, device=device).unbind()
        weights, grads, mean, square = (list(map(_padded, some)) for some in tensors)
        adam(
            weights,
            grads,
            mean,
            square,
            [],
            list(counts),
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=float(rate),
            weight_decay=0.0,
            eps=self.epsilon,
            maximize=False,
        )
        for own, given in zip(tensors, (weights, None, mean, square), strict=True):
            for one, other in zip(own, given or own, strict=True):
                if one is not other:
                    one.copy_(other[: one.numel()].view_as(one))


def _padded(tensor: Tensor) -> Tensor:
    """The tensor, or a flat copy that fills whole vectors of the processor.

    What is left over at the end of a tensor is computed by other instructions, with
    other last bits; which weights that are must not depend on the number of rows.
    """
    missing = -tensor.numel() % VECTOR if tensor.device.type == "cpu" else 0
    if not missing:
        return tensor
    return torch.nn.functional.pad(tensor.reshape(-1), (0, missing))


def _sliced(tensors: list[Tensor], rows: np.ndarray) -> list[Tensor]:
    """Single rows of every tensor, tensor by tensor."""
    return [one for tensor in tensors for one in _chosen(tensor.unbind(), rows)]


def _chosen(slices: Sequence[Tensor], rows: np.ndarray) -> list[Tensor]:
    return [slices[row] for row in rows]


class Graph:
    """A function of tensors as a CUDA graph: recorded at the first call, then replayed.

    Args:
        function: of tensors of fixed shapes, without random numbers and without any
            look at their values; what else it reads has to stay where it is.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """What the function returns; the next call overwrites it."""
        if self._graph is None:
            self._record(inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given)
        if self._graph is not None:
            self._graph.replay()
        return self._outputs

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = [given.clone() for given in inputs]
        # Libraries make their workspaces at first use, which must not be recorded.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._function(*self._inputs)
