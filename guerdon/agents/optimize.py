"""Gradient steps of many rows at once, each with its own norm, rate and count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from guerdon.agents.adam_loops import (
    BETA_1,
    BETA_2,
    Stacks,
    adam_loops,
    norm_loops,
)
from guerdon.agents.networks import Weights
from guerdon.envs.grid.compiled import has_compiler


class StackedAdam:
    """Clipped gradients and Adam on stacked weights, which is R independent Adams.

    Rows may be of different age: each counts its own steps for the bias correction.

    Args:
        weights: by name, ``(R, V, W)``.
        limit: largest norm of a row's gradient over all weights; others are scaled
            down to it.
        epsilon: added to the deviation.

    Reference: Kingma and Ba, "Adam" (ICLR 2015), algorithm 1.
    """

    def __init__(
        self, weights: Weights, limit: float = 0.5, epsilon: float = 1e-5
    ) -> None:
        self.limit, self.epsilon = limit, epsilon
        self.mean = {name: torch.zeros_like(w.detach()) for name, w in weights.items()}
        self.square = {
            name: torch.zeros_like(w.detach()) for name, w in weights.items()
        }
        first = next(iter(weights.values()))
        self.steps = np.zeros(len(first), np.int64)
        self._compiled = has_compiler() and first.device.type == "cpu"
        self._moved: Stacks = ()
        self._scales = np.ones(len(first), np.float32)

    def clip(self, grads: Sequence[Tensor]) -> Tensor:
        """Bring a row's gradient to ``limit`` where it is longer.

        Compiled, the gradients stay as they are and ``step`` scales them on its way;
        else they are scaled in place.

        Args:
            grads: one for each weight, in their order.

        Returns:
            ``(R,)`` norms before; a row whose norm is not finite is left to the caller.
        """
        if not self._compiled:
            parts = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
            # Along the last axis, where a sum's order does not depend on the rows.
            norms: Tensor = torch.linalg.vector_norm(torch.stack(parts, 1), dim=1)
            scales = self._scale(norms)
            for grad in grads:
                grad.mul_(scales.view(-1, *(1,) * (grad.dim() - 1)))
            return norms
        self._moved = self._moved or self._find_moved()
        found = np.empty(len(self.steps), np.float32)
        sums = np.empty(max(grad.shape[-1] for grad in grads), np.float32)
        norm_loops(_contiguous(grads), self._moved, sums, found)
        norms = torch.from_numpy(found)
        self._scales = self._scale(norms).numpy()
        return norms

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
            grads: in their order, for which ``clip`` was called last.
            active: ``(R,)`` bool.
            rates: ``(R,)`` step sizes.
        """
        rows = np.flatnonzero(active)
        if not len(rows):
            return
        if self._compiled:
            age = self.steps + 1
            adam_loops(
                _arrays(weights.values()),
                _contiguous(grads),
                _arrays(self.mean.values()),
                _arrays(self.square.values()),
                self._moved,
                rows,
                self._scales,
                (rates / (1.0 - BETA_1**age)).astype(np.float32),
                (1.0 / np.sqrt(1.0 - BETA_2**age)).astype(np.float32),
                np.float32(self.epsilon),
            )
        else:
            tensors = [list(weights.values()), list(grads)]
            tensors += [list(self.mean.values()), list(self.square.values())]
            self._step_in_torch(tensors, rows, rates)
        self.steps[rows] += 1

    def _scale(self, norms: Tensor) -> Tensor:
        return (self.limit / (norms + 1e-6)).clamp(max=1.0)

    def _step_in_torch(
        self, tensors: list[list[Tensor]], rows: np.ndarray, rates: np.ndarray
    ) -> None:
        count = len(tensors[0])
        done, speeds = {*self.steps[rows].tolist()}, {*rates[rows].tolist()}
        with torch.no_grad():
            if len(done) == 1 == len(speeds):
                # All rows at once, and what rests is put back: a few copies, where
                # rows one by one are hundreds of small calls in every step.
                everyone = np.arange(len(self.steps))
                resting = torch.from_numpy(np.setdiff1d(everyone, rows))
                changed = tensors[0] + tensors[2] + tensors[3]
                kept = [one[resting] for one in changed] if len(resting) else []
                self._apply(tensors, [done.pop()] * count, speeds.pop())
                for tensor, values in zip(changed, kept, strict=False):
                    tensor[resting] = values
            else:
                for rate in np.unique(rates[rows]):
                    alike = rows[rates[rows] == rate]
                    slices = [_sliced(one, alike) for one in tensors]
                    self._apply(slices, np.tile(self.steps[alike], count), rate)

    def _find_moved(self) -> Stacks:
        """Of each weight, ``(R, V)`` bool, which vectors have had a gradient."""
        pairs = zip(self.mean.values(), self.square.values(), strict=True)
        return tuple(((m != 0.0) | (s != 0.0)).any(-1).numpy() for m, s in pairs)

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows, in the order given."""
        for moments in (self.mean, self.square):
            for name, value in moments.items():
                moments[name] = value[list(rows)]
        self.steps, self._moved = self.steps[list(rows)], ()

    def restart(self, row: int) -> None:
        """Forget what one row has done."""
        for moments in (self.mean, self.square):
            for value in moments.values():
                value[row] = 0.0
        self.steps[row], self._moved = 0, ()

    def _apply(
        self,
        tensors: list[list[Tensor]],
        steps: Sequence[int] | np.ndarray,
        rate: float,
    ) -> None:
        device = tensors[0][0].device
        counts = torch.tensor(steps, dtype=torch.float32, device=device).unbind()
        weights, grads, mean, square = tensors
        adam(
            weights,
            grads,
            mean,
            square,
            [],
            list(counts),
            fused=True,
            amsgrad=False,
            beta1=BETA_1,
            beta2=BETA_2,
            lr=float(rate),
            weight_decay=0.0,
            eps=self.epsilon,
            maximize=False,
        )


def _arrays(tensors: Iterable[Tensor]) -> Stacks:
    """Their own memory, which is written to."""
    return tuple(one.detach().numpy() for one in tensors)


def _contiguous(tensors: Iterable[Tensor]) -> Stacks:
    """The same numbers, to be read."""
    return tuple(one.contiguous().numpy() for one in tensors)


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
