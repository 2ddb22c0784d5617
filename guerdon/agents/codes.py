"""A linear layer on the one-hot codes of a grid, for many rows at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guerdon.agents.things import Things, available, gather_loops, scatter_loops

MAX_CODE = 63
"""Codes beyond this are pixels or counts, for which one-hot is the wrong reading."""

MOST_THINGS = 4096
"""Combinations of a cell's codes up to which they are worth a table."""


class Scratch:
    """Memory that is used again; fresh pages would cost more than what fills them."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[int, ...], np.ndarray] = {}
        self._things: dict[tuple[int, ...], Things] = {}

    def array(self, *shape: int) -> np.ndarray:
        """The float32 array of this shape, with what was written there last."""
        if shape not in self._arrays:
            self._arrays[shape] = np.empty(shape, np.float32)
        return self._arrays[shape]

    def things(self, batch: int, cells: int, radix: np.ndarray, width: int) -> Things:
        """The workspace of these sizes."""
        key = batch, cells, width, *radix.tolist()
        if key not in self._things:
            self._things[key] = Things(batch, cells, radix, width)
        return self._things[key]


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


def gather_sum(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    high: tuple[int, ...],
    radix: tuple[int, ...],
    scratch: Scratch | None = None,
) -> Tensor:
    """``one_hot(codes) @ weight + bias``, ``(R, B, F)``, without the one-hot matrix.

    Args:
        codes: ``(R, B, C)`` uint8 on a CPU.
        weight: ``(R, I, F)``.
        bias: ``(R, 1, F)``.
        high: largest value of each code.
        radix: from ``radix_of``.
        scratch: where the sum lies, which the next sum of its shape overwrites, and
            the weight's gradient, which the next gradient overwrites.

    Raises:
        ValueError: for a code above its largest value, where there is a compiler.
    """
    total: Tensor = _GatherSum.apply(  # type: ignore[no-untyped-call]
        codes, weight, bias, high, radix, scratch or Scratch()
    )
    return total


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


class _GatherSum(torch.autograd.Function):
    """``one_hot(codes) @ weight + bias`` for every row without the one-hot matrix.

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
        scratch: Scratch,
    ) -> Tensor:
        ctx.save_for_backward(codes, weight)
        ctx.high, ctx.radix, ctx.scratch = high, radix, scratch
        rows, batch, cells = codes.shape
        if not available():
            _, stacked = _offsets(high, rows, codes.device)
            columns = torch.add(stacked, codes).view(rows * batch, cells)
            rows_of = weight.flatten(0, 1)
            total = nn.functional.embedding_bag(columns, rows_of, mode="sum")
            return total.view(rows, batch, -1) + bias
        out = scratch.array(rows, batch, weight.shape[2])
        possible = gather_loops(
            *_looked_at(codes, high, radix),
            weight.detach().numpy(),
            bias.detach().numpy(),
            out,
            *_things(codes, weight, radix, scratch).arrays,
        )
        if not possible:
            raise ValueError(
                "observation: expected codes within the bounds of its space, got "
                f"{codes.max()} or another that is above its own"
            )
        # A new tensor each time: this one gets a gradient, and may be changed in place.
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        codes, weight = ctx.saved_tensors
        (grad,) = grads
        rest = grad.sum(1, keepdim=True), None, None, None
        if not available():
            product = one_hot(codes, weight, ctx.high).transpose(1, 2) @ grad
            return None, product, *rest
        total = ctx.scratch.array(*weight.shape)
        total.fill(0.0)
        scatter_loops(
            *_looked_at(codes, ctx.high, ctx.radix),
            grad.contiguous().numpy(),
            total,
            *_things(codes, weight, ctx.radix, ctx.scratch).arrays,
        )
        return None, torch.from_numpy(total), *rest


def _looked_at(
    codes: Tensor, high: tuple[int, ...], radix: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes by cells, where the values of each begin, their highest, and the radix."""
    by_cells = codes.contiguous().view(*codes.shape[:2], -1, len(radix))
    return by_cells.numpy(), *_layout(high, radix)


@cache
def _layout(
    high: tuple[int, ...], radix: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, _ = _offsets(high, 1, torch.device("cpu"))
    most = np.array(high, np.uint8)
    parts = len(radix)
    return first.numpy().reshape(-1, parts), most.reshape(-1, parts), np.array(radix)


def _things(
    codes: Tensor, weight: Tensor, radix: tuple[int, ...], scratch: Scratch
) -> Things:
    _, batch, count = codes.shape
    return scratch.things(batch, count // len(radix), np.array(radix), weight.shape[2])
