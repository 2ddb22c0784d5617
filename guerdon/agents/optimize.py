"""Gradient steps of many rows at once, each with its own norm, rate and count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

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


class _Known(NamedTuple):
    """Where the numbers lie, and which vectors have ever had a gradient."""

    weights: Stacks
    mean: Stacks
    square: Stacks
    moved: Stacks
    everywhere: Stacks
    """Marks of a gradient of which nothing is known."""


class _Clipped(NamedTuple):
    """Gradients that are still to be scaled."""

    grads: Stacks
    marks: Stacks
    scales: np.ndarray


class StackedAdam:
    """Clipped gradients and Adam on stacked weights, which is R independent Adams.

    Rows may be of different age: each counts its own steps for the bias correction.

    Args:
        weights: by name, ``(R, V, W)``; they stay where they are.
        limit: largest norm of a row's gradient over all weights; others are scaled
            down to it.
        epsilon: added to the deviation.

    Reference: Kingma and Ba, "Adam" (ICLR 2015), algorithm 1.
    """

    def __init__(
        self, weights: Weights, limit: float = 0.5, epsilon: float = 1e-5
    ) -> None:
        self.weights, self.limit, self.epsilon = weights, limit, epsilon
        self.mean = {name: torch.zeros_like(w.detach()) for name, w in weights.items()}
        self.square = {
            name: torch.zeros_like(w.detach()) for name, w in weights.items()
        }
        first = next(iter(weights.values()))
        self.steps = np.zeros(len(first), np.int64)
        self._compiled = has_compiler() and first.device.type == "cpu"
        self._known: _Known | None = None
        self._clipped: list[Tensor] | _Clipped | None = None

    def clip(
        self,
        grads: Sequence[Tensor],
        marks: Sequence[np.ndarray | None] | None = None,
    ) -> Tensor:
        """Bring a row's gradient to ``limit`` where it is longer, for the next step.

        Compiled, the gradients stay as they are and ``step`` scales them on its way;
        else they are scaled in place.

        Args:
            grads: one for each weight, in their order, ``(R, V, W)``; kept.
            marks: of each, ``(R, V)`` bool, outside of which it is zero, if known.

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
            self._clipped = list(grads)
            return norms
        known = self._known = self._known or self._look()
        pairs = zip(marks or [None] * len(grads), known.everywhere, strict=True)
        told = tuple(each if mark is None else mark for mark, each in pairs)
        arrays = tuple(grad.contiguous().numpy() for grad in grads)
        found = np.empty(len(self.steps), np.float32)
        sums = np.empty(max(grad.shape[-1] for grad in grads), np.float32)
        norm_loops(arrays, told, known.moved, sums, found)
        norms = torch.from_numpy(found)
        self._clipped = _Clipped(arrays, told, self._scale(norms).numpy())
        return norms

    def step(self, active: np.ndarray, rates: np.ndarray) -> None:
        """Move the active rows along the gradients that were clipped last.

        Args:
            active: ``(R,)`` bool; the others stay as they are.
            rates: ``(R,)`` step sizes.

        Raises:
            RuntimeError: when none have been clipped since the rows were selected.
        """
        rows = np.flatnonzero(active)
        if self._clipped is None:
            raise RuntimeError("step: expected gradients that clip was told, got none")
        if not len(rows):
            return
        if isinstance(self._clipped, list):
            tensors = [list(self.weights.values()), self._clipped]
            tensors += [list(self.mean.values()), list(self.square.values())]
            self._step_in_torch(tensors, rows, rates)
        elif self._known is not None:
            known, clipped, age = self._known, self._clipped, self.steps + 1
            adam_loops(
                known.weights,
                clipped.grads,
                known.mean,
                known.square,
                clipped.marks,
                known.moved,
                rows,
                clipped.scales,
                (rates / (1.0 - BETA_1**age)).astype(np.float32),
                (1.0 / np.sqrt(1.0 - BETA_2**age)).astype(np.float32),
                np.float32(self.epsilon),
            )
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

    def _look(self) -> _Known:
        groups = self.weights, self.mean, self.square
        weights, mean, square = (_arrays(group.values()) for group in groups)
        pairs = zip(mean, square, strict=True)
        moved = tuple(((m != 0.0) | (s != 0.0)).any(-1) for m, s in pairs)
        return _Known(weights, mean, square, moved, tuple(map(np.ones_like, moved)))

    def select(self, rows: Sequence[int], weights: Weights) -> None:
        """Keep some rows, in the order given, whose weights lie elsewhere now."""
        self.weights = weights
        for moments in (self.mean, self.square):
            for name, value in moments.items():
                moments[name] = value[list(rows)]
        self.steps = self.steps[list(rows)]
        self._known = self._clipped = None

    def restart(self, row: int) -> None:
        """Forget what one row has done."""
        for moments in (self.mean, self.square):
            for value in moments.values():
                value[row] = 0.0
        self.steps[row], self._known = 0, self._known and self._look()

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
