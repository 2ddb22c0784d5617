"""Layers with their activation, for many rows at once, as a CPU does them fastest.

Torch would go through the numbers once for each of: sum, activation, its derivative,
the gradient of the bias, and the halves of actor and critic put together.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from guerdon.agents.coding import Coding, columns, one_hot, require_possible
from guerdon.agents.layer_loops import (
    Meaning,
    Space,
    activate_loops,
    gather_loops,
    scatter_loops,
    slope_loops,
    space_for,
)
from guerdon.envs.grid.compiled import has_compiler

Activation = Literal["tanh", "relu"]


MOST_SHAPES = 16
"""Sizes of outputs for which a scratch keeps memory at a time."""


class Scratch:
    """Memory that is used again; fresh pages would cost more than what fills them.

    For one layer, and one gradient at a time: what lies here of an output is
    overwritten by the next one with as many observations a row, and a gradient by the
    next, so take a loss's gradient before the next output, and do not change it.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
        self._spaces: dict[tuple[int, ...], Space] = {}
        self._turns: dict[tuple[int, ...], int] = {}
        self._marks: dict[tuple[int, ...], np.ndarray] = {}

    def output(self, *shape: int) -> np.ndarray:
        """Where an output ``(P, R, B, W)`` goes; begins another turn for B and F."""
        if len(self._arrays) >= MOST_SHAPES and ("output", shape) not in self._arrays:
            self.forget()
        self._turns[_turn(shape)] = self.turn(*shape) + 1
        return self._array("output", shape)

    def turn(self, *shape: int) -> int:
        """How many outputs with this B and F there have been."""
        return self._turns.get(_turn(shape), 0)

    def gradient(self, *shape: int) -> tuple[np.ndarray, np.ndarray]:
        """Where a gradient ``(R, I, F)`` goes, and ``(R, I)`` where it is not zero."""
        if shape not in self._marks:
            self._array("gradient", shape).fill(0.0)
            self._marks[shape] = np.zeros(shape[:2], np.bool_)
        return self._array("gradient", shape), self._marks[shape]

    def marks_of(self, grad: Tensor) -> np.ndarray | None:
        """``(R, I)`` where a gradient is not zero, if it lies here."""
        array = self._arrays.get(("gradient", tuple(grad.shape)))
        if array is None or array.ctypes.data != grad.data_ptr():
            return None
        return self._marks[array.shape]

    def forget(self) -> None:
        """Give all memory back."""
        for kept in (self._arrays, self._spaces, self._marks):
            kept.clear()

    def _array(self, what: str, shape: tuple[int, ...]) -> np.ndarray:
        key = what, shape
        if key not in self._arrays:
            # Torch's memory, and not NumPy's: products begin where it is aligned, and
            # from another place on their last bits are others.
            with torch.inference_mode(False):
                self._arrays[key] = torch.empty(shape).numpy()
        return self._arrays[key]

    def space(
        self, rows: int, batch: int, cells: int, radix: tuple[int, ...], width: int
    ) -> Space:
        """What the loops write to on the way, for as many rows or more."""
        key = batch, cells, width, *radix
        if key not in self._spaces or len(self._spaces[key][1]) < rows:
            self._spaces[key] = space_for(rows, batch, cells, radix, width)
        return self._spaces[key]


def _turn(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Outputs alike in this share the memory in which things are found."""
    parts, _, batch, width = shape
    return batch, parts * width


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight + bias`` for every row, ``(R, B, F)``.

    Args:
        x: ``(R, B, I)``.
        weight: ``(R, I, F)``.
        bias: ``(R, 1, F)``.
    """
    if len(weight) == 1 == weight.shape[-1]:
        # A lone product with a vector is computed in another order than several, and
        # a row has to learn the same alone and among others.
        twice = (one.expand(2, -1, -1) for one in (bias, x, weight))
        return torch.baddbmm(*twice)[:1]
    return torch.baddbmm(bias, x, weight)


def dense_layer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
    *,
    loops: bool = True,
) -> Tensor:
    """``activation(x @ weight + bias)`` for every row, ``(R, B, F)``.

    Args:
        x: ``(R, B, I)``.
        weight: ``(R, I, F)``.
        bias: ``(R, 1, F)``.
        activation: of the layer.
        loops: allow compiled loops; else torch alone, as a GPU and ``torch.compile``
            need it.
    """
    compiled = loops and has_compiler() and weight.device.type == "cpu"
    exact = weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not compiled or not exact:
        return _activated(product(x, weight, bias), activation)
    if not torch.is_grad_enabled():
        return _dense(x, weight, bias, activation == "tanh")
    told: Tensor = _DenseLayer.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, activation == "tanh"
    )
    return told


def code_layer(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    coding: Coding,
    activation: Activation,
    parts: int = 1,
    scratch: Scratch | None = None,
) -> tuple[Tensor, ...]:
    """``dense_layer`` of one-hot codes, cut into parts, without the one-hot matrix.

    Args:
        codes: ``(R, B, C)`` uint8 on a CPU.
        weight: ``(R, I, F)``.
        bias: ``(R, 1, F)``.
        coding: of them.
        activation: of the layer.
        parts: P, how many networks lie side by side in it.
        scratch: where the output lies, which the next one with as many observations a
            row overwrites, and the weight's gradient, which the next of its shape
            overwrites and nobody else may write to.

    Returns:
        P of ``(R, B, F / P)``.

    Raises:
        ValueError: for a code above its largest value.
    """
    if not has_compiler():
        require_possible(codes, coding.high)
        total: Tensor = _GatheredSum.apply(  # type: ignore[no-untyped-call]
            codes, weight, coding
        )
        return _activated(total + bias, activation).chunk(parts, -1)
    told: tuple[Tensor, ...] = _CodeLayer.apply(  # type: ignore[no-untyped-call]
        codes,
        weight,
        bias,
        coding,
        activation == "tanh",
        parts,
        scratch or Scratch(),
    )
    return told


def _activated(x: Tensor, activation: Activation) -> Tensor:
    return x.tanh_() if activation == "tanh" else x.relu_()


def _dense(x: Tensor, weight: Tensor, bias: Tensor, tanh: bool) -> Tensor:
    out = product(x, weight, bias)
    activate_loops(out.numpy(), tanh)
    return out


class _DenseLayer(torch.autograd.Function):
    """The product is torch's; what comes behind it are compiled loops."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, tanh: bool
    ) -> Tensor:
        out = _dense(x, weight, bias, tanh)
        ctx.tanh = tanh
        ctx.save_for_backward(x, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        slopes, bias = torch.empty_like(out), x.new_empty(len(out), 1, out.shape[2])
        told = out.numpy()[None]
        slope_loops(_arrays(grads), told, ctx.tanh, slopes.numpy(), bias.numpy())
        before = torch.bmm(slopes, weight.mT) if ctx.needs_input_grad[0] else None
        return before, torch.bmm(x.mT, slopes), bias, None


class _CodeLayer(torch.autograd.Function):
    """``activation(one_hot(codes) @ weight + bias)`` for every row, all in loops.

    Forward, 147 gathered rows of the weight beat a product with 1029 columns that are
    mostly zero five times, and compiled loops, which gather 49, beat that twice. The
    gradient goes the other way: torch's scattering loses to the product, and compiled
    loops win against both (on one core, per observation of a grid and 128 outputs: 8
    us, 3.3 us and .6 us).
    """

    @staticmethod
    def forward(
        ctx: Any,
        codes: Tensor,
        weight: Tensor,
        bias: Tensor,
        coding: Coding,
        tanh: bool,
        parts: int,
        scratch: Scratch,
    ) -> tuple[Tensor, ...]:
        rows, batch, _ = codes.shape
        width = weight.shape[2]
        cells, meaning = _by_cells(codes, coding), _meaning(coding)
        out = scratch.output(parts, rows, batch, width // parts)
        space = scratch.space(rows, batch, cells.shape[2], coding.radix, width)
        possible = gather_loops(
            cells,
            meaning,
            weight.detach().numpy(),
            bias.detach().numpy(),
            tanh,
            out,
            space,
        )
        if not possible:
            require_possible(codes, coding.high)
        ctx.tanh, ctx.space, ctx.meaning, ctx.out = tanh, space, meaning, out
        ctx.scratch, ctx.turn = scratch, scratch.turn(*out.shape)
        ctx.cells, ctx.shape = cells, weight.shape
        # New tensors each time: these get gradients.
        return tuple(map(torch.from_numpy, out))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.scratch.turn(*ctx.out.shape) != ctx.turn:
            raise RuntimeError(
                "scratch: another output of this size has overwritten the one whose "
                "gradient is asked for; take the gradient first, or give each its own"
            )
        total, marks = ctx.scratch.gradient(*ctx.shape)
        bias = grads[0].new_empty(ctx.shape[0], 1, ctx.shape[2])
        scatter_loops(
            ctx.cells,
            ctx.meaning,
            _arrays(grads),
            ctx.out,
            ctx.tanh,
            total,
            marks,
            bias.numpy(),
            ctx.space,
        )
        return None, torch.from_numpy(total), bias, *(None,) * 4


class _GatheredSum(torch.autograd.Function):
    """``one_hot(codes) @ weight`` in torch alone; see ``_CodeLayer``."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, weight: Tensor, coding: Coding) -> Tensor:
        ctx.coding = coding
        ctx.save_for_backward(codes, weight)
        rows, batch, numbers = codes.shape
        places = columns(codes, coding)
        places += torch.arange(rows)[:, None, None] * weight.shape[1]
        total = nn.functional.embedding_bag(
            places.view(rows * batch, numbers), weight.flatten(0, 1), mode="sum"
        )
        return total.view(rows, batch, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        codes, weight = ctx.saved_tensors
        return None, one_hot(codes, weight, ctx.coding).mT @ grads[0], None


def _arrays(grads: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    return tuple(grad.contiguous().numpy() for grad in grads)


def _by_cells(codes: Tensor, coding: Coding) -> np.ndarray:
    """``(R, B, C)`` codes as ``(R, B, C / K, K)``."""
    parts = len(coding.radix)
    shape = *codes.shape[:2], codes.shape[2] // parts, parts
    return codes.contiguous().view(shape).numpy()


@cache
def _meaning(coding: Coding) -> Meaning:
    shape = -1, len(coding.radix)
    return (
        np.array(coding.first, np.int32).reshape(shape),
        np.array(coding.high, np.uint8).reshape(shape),
        np.array(coding.radix, np.int64),
        np.int64(coding.apart),
    )
