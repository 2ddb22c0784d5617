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
        self._state: tuple[Stacks, Stacks, Stacks] | None = None
        """Weights and moments as arrays."""
        self._moved: Stacks = ()
        self._everywhere: Stacks = ()
        self._marks: Stacks = ()
        self._grads: Stacks = ()
        self._scales = np.ones(len(first), np.float32)

    def clip(
        self,
        grads: Sequence[Tensor],
        marks: Sequence[np.ndarray | None] | None = None,
    ) -> Tensor:
        """Bring a row's gradient to ``limit`` where it is longer.

        Compiled, the gradients stay as they are and ``step`` scales them on its way;
        else they are scaled in place.

        Args:
            grads: one for each weight, in their order, ``(R, V, W)``.
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
            return norms
        if self._state is None:
            self._look()
        known = zip(marks or [None] * len(grads), self._everywhere, strict=True)
        self._marks = tuple(each if mark is None else mark for mark, each in known)
        self._grads = tuple(grad.contiguous().numpy() for grad in grads)
        found = np.empty(len(self.steps), np.float32)
        sums = np.empty(max(grad.shape[-1] for grad in grads), np.float32)
        norm_loops(self._grads, self._marks, self._moved, sums, found)
        norms = torch.from_numpy(found)
        self._scales = self._scale(norms).numpy()
        return norms

    def step(
        self, grads: Sequence[Tensor], active: np.ndarray, rates: np.ndarray
    ) -> None:
        """Move the active rows; the others stay as they are.

        Args:
            grads: for which ``clip`` was called last.
            active: ``(R,)`` bool.
            rates: ``(R,)`` step sizes.
        """
        rows = np.flatnonzero(active)
        if not len(rows):
            return
        if self._state is not None:
            weights, mean, square = self._state
            age = self.steps + 1
            adam_loops(
                weights,
                self._grads,
                mean,
                square,
                self._marks,
                self._moved,
                rows,
                self._scales,
                (rates / (1.0 - BETA_1**age)).astype(np.float32),
                (1.0 / np.sqrt(1.0 - BETA_2**age)).astype(np.float32),
                np.float32(self.epsilon),
            )
        else:
            tensors = [list(self.weights.values()), list(grads)]
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

    def _look(self) -> None:
        """See where the numbers lie, and which vectors have ever had a gradient."""
        groups = self.weights, self.mean, self.square
        weights, mean, square = (_arrays(group.values()) for group in groups)
        self._state = weights, mean, square
        pairs = zip(mean, square, strict=True)
        self._moved = tuple(((m != 0.0) | (s != 0.0)).any(-1) for m, s in pairs)
        self._everywhere = tuple(map(np.ones_like, self._moved))

    def select(self, rows: Sequence[int], weights: Weights) -> None:
        """Keep some rows, in the order given, whose weights lie elsewhere now."""
        self.weights = weights
        for moments in (self.mean, self.square):
            for name, value in moments.items():
                moments[name] = value[list(rows)]
        self.steps, self._state = self.steps[list(rows)], None

    def restart(self, row: int) -> None:
        """Forget what one row has done."""
        for moments in (self.mean, self.square):
            for value in moments.values():
                value[row] = 0.0
        self.steps[row], self._state = 0, None

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
