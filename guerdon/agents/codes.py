"""The layer that reads the one-hot codes of a grid, for many rows at once."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from guerdon.agents.things import (
    Meaning,
    Space,
    gather_loops,
    scatter_loops,
    space_for,
)
from guerdon.envs.grid.compiled import has_compiler

Activation = Literal["tanh", "relu"]

MAX_CODE = 63
"""Codes beyond this are pixels or counts, for which one-hot is the wrong reading."""

MOST_THINGS = 4096
"""Combinations of a cell's codes up to which they are worth a table."""


class Scratch:
    """Memory that is used again; fresh pages would cost more than what fills them.

    What lies here of an output is overwritten by the next one with as many
    observations a row, so a gradient has to be taken before that.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
        self._spaces: dict[tuple[int, ...], Space] = {}
        self._turns: dict[tuple[int, ...], int] = {}
        self._marks: dict[tuple[int, ...], np.ndarray] = {}

    def output(self, *shape: int) -> np.ndarray:
        """Where an output ``(R, B, F)`` goes; begins another turn for B and F."""
        self._turns[shape[1:]] = self.turn(*shape) + 1
        return self._array("output", shape)

    def turn(self, *shape: int) -> int:
        """How many outputs with this B and F there have been."""
        return self._turns.get(shape[1:], 0)

    def gradient(self, *shape: int) -> tuple[np.ndarray, np.ndarray]:
        """Where a gradient ``(R, I, F)`` goes, and ``(R, I)`` where it is not zero."""
        if shape not in self._marks:
            self._array("gradient", shape).fill(0.0)
            self._marks[shape] = np.zeros(shape[:2], np.bool_)
        return self._array("gradient", shape), self._marks[shape]

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


@cache
def radix_of(high: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many values each code of a cell has; cells are the last axis if alike."""
    last = shape[-1] if len(shape) > 1 else 1
    table = np.array(high).reshape(-1, last)
    counts = table.max(0) + 1
    if (table == table[0]).all() and counts.prod() <= MOST_THINGS:
        return tuple(counts.tolist())
    return (max(high) + 1,)


def one_hot(codes: Tensor, weight: Tensor, high: tuple[int, ...]) -> Tensor:
    """``(R, B, C)`` codes as zeros and ones, ``(R, B, I)``, one per row of the weight.

    Args:
        codes: uint8.
        weight: ``(R, I, F)``.
        high: largest value of each code.
    """
    offsets, _ = _offsets(high, len(weight), codes.device)
    shape = (*codes.shape[:2], weight.shape[1])
    zeros = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    return zeros.scatter_(2, codes.long() + offsets, 1.0)


def code_layer(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    high: tuple[int, ...],
    radix: tuple[int, ...],
    activation: Activation,
    scratch: Scratch | None = None,
) -> Tensor:
    """``activation(one_hot(codes) @ weight + bias)`` without the one-hot matrix.

    Args:
        codes: ``(R, B, C)`` uint8 on a CPU.
        weight: ``(R, I, F)``.
        bias: ``(R, 1, F)``.
        high: largest value of each code.
        radix: from ``radix_of``.
        activation: of the layer.
        scratch: where the output lies, which the next one with as many observations a
            row overwrites, and the weight's gradient, which the next of its shape
            overwrites and nobody else may write to.

    Returns:
        ``(R, B, F)``.

    Raises:
        ValueError: for a code above its largest value.
    """
    out: Tensor = _CodeLayer.apply(  # type: ignore[no-untyped-call]
        codes, weight, bias, high, radix, activation, scratch or Scratch()
    )
    return out


@cache
def _offsets(
    high: tuple[int, ...], rows: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """First row of every number's codes: ``(C,)``, and for R stacks ``(R, 1, C)``."""
    counts = np.asarray(high, np.int64) + 1
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    stacked = first + np.arange(rows)[:, None, None] * counts.sum()
    # A tensor that is kept must not belong to whoever asked first.
    with torch.inference_mode(False):
        return (
            torch.from_numpy(first.astype(np.int32)).to(device),
            torch.from_numpy(stacked.astype(np.int32)).to(device),
        )


class _CodeLayer(torch.autograd.Function):
    """``activation(one_hot(codes) @ weight + bias)`` for every row.

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
        high: tuple[int, ...],
        radix: tuple[int, ...],
        activation: Activation,
        scratch: Scratch,
    ) -> Tensor:
        ctx.high, ctx.radix, ctx.activation = high, radix, activation
        ctx.scratch = scratch
        rows, batch, numbers = codes.shape
        if not has_compiler():
            _require_possible(codes, high)
            _, stacked = _offsets(high, rows, codes.device)
            columns = torch.add(stacked, codes).view(rows * batch, numbers)
            rows_of = weight.flatten(0, 1)
            total = nn.functional.embedding_bag(columns, rows_of, mode="sum")
            total = total.view(rows, batch, -1) + bias
            out = total.tanh_() if activation == "tanh" else total.relu_()
            ctx.save_for_backward(codes, weight, out)
            return out
        width = weight.shape[2]
        array = scratch.output(rows, batch, width)
        ctx.turn = scratch.turn(rows, batch, width)
        cells = _by_cells(codes, radix)
        possible = gather_loops(
            cells,
            _meaning(high, radix),
            weight.detach().numpy(),
            bias.detach().numpy(),
            activation == "tanh",
            array,
            scratch.space(rows, batch, cells.shape[2], radix, width),
        )
        if not possible:
            _require_possible(codes, high)
        # A new tensor each time: this one gets a gradient.
        out = torch.from_numpy(array)
        out = out if activation == "tanh" else out.relu_()
        ctx.save_for_backward(codes, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        codes, weight, out = ctx.saved_tensors
        compiled = has_compiler()
        if compiled and ctx.scratch.turn(*out.shape) != ctx.turn:
            raise RuntimeError(
                "scratch: another output of this size has overwritten the one whose "
                "gradient is asked for; take the gradient first, or give each its own"
            )
        if ctx.activation == "tanh":
            grad = torch.ops.aten.tanh_backward(grads[0], out)
        else:
            grad = torch.ops.aten.threshold_backward(grads[0], out, 0.0)
        rest = grad.sum(1, keepdim=True), None, None, None, None
        if not compiled:
            product = one_hot(codes, weight, ctx.high).transpose(1, 2) @ grad
            return None, product, *rest
        rows, batch, width = grad.shape
        total, marks = ctx.scratch.gradient(*weight.shape)
        cells = _by_cells(codes, ctx.radix)
        scatter_loops(
            cells,
            _meaning(ctx.high, ctx.radix),
            grad.contiguous().numpy(),
            total,
            marks,
            ctx.scratch.space(rows, batch, cells.shape[2], ctx.radix, width),
        )
        return None, torch.from_numpy(total), *rest


def _by_cells(codes: Tensor, radix: tuple[int, ...]) -> np.ndarray:
    """``(R, B, C * K)`` codes as ``(R, B, C, K)``."""
    shape = *codes.shape[:2], -1, len(radix)
    return codes.contiguous().view(shape).numpy()


@cache
def _meaning(high: tuple[int, ...], radix: tuple[int, ...]) -> Meaning:
    first, _ = _offsets(high, 1, torch.device("cpu"))
    shape = -1, len(radix)
    most = np.array(high, np.uint8)
    return (
        first.numpy().reshape(shape),
        most.reshape(shape),
        np.array(radix, np.int64),
    )


def _require_possible(codes: Tensor, high: tuple[int, ...]) -> None:
    """Refuse a code above its bound: the weights behind it are another code's.

    Raises:
        ValueError: names the first one.
    """
    above = (codes > torch.tensor(high)).nonzero()
    if len(above):
        row, one, place = above[0].tolist()
        raise ValueError(
            f"observation: expected number {place} within its space's bounds, 0 to "
            f"{high[place]}, got {int(codes[row, one, place])}"
        )
