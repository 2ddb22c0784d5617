"""What the small codes of a grid are, and which weights of a layer are theirs."""

from __future__ import annotations

import math
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MAX_CODE = 63
"""Codes beyond this are pixels or counts, for which one-hot is the wrong reading."""

MOST_THINGS = 4096
"""Combinations of a cell's codes up to which they are worth a table."""


class Coding(NamedTuple):
    """What the C codes of an observation are, and which rows of a weight are theirs.

    Where all cells are alike, the rows of one value of one code lie together for all
    of them: most values are never seen, and the memory of those is never touched.
    """

    high: tuple[int, ...]
    """``(C,)`` largest value of each."""
    radix: tuple[int, ...]
    """``(K,)`` how many values each code of a cell has; K = 1 if cells differ."""
    first: tuple[int, ...]
    """``(C,)`` row of the weight for each code's value 0."""
    apart: int
    """How many rows further on the next value's is."""

    def flat(self) -> np.ndarray:
        """``(I,)`` rows of the first code's values, then of the second's, and so on."""
        values = [np.arange(most + 1) for most in self.high]
        pairs = zip(self.first, values, strict=True)
        return np.concatenate([first + self.apart * each for first, each in pairs])


# Python's numbers alone: this runs inside of what ``torch.compile`` reads.
@cache
def coding_of(high: tuple[int, ...], shape: tuple[int, ...]) -> Coding:
    """The coding of an observation; the codes of a cell are the last axis if alike.

    Args:
        high: largest value of each of its numbers, flattened.
        shape: of the observation.
    """
    width = shape[-1] if len(shape) > 1 else 1
    counts = [most + 1 for most in high]
    cells = len(counts) // width
    if counts == counts[:width] * cells and math.prod(counts[:width]) <= MOST_THINGS:
        before = list(accumulate(counts[:width], initial=0))[:width]
        first = tuple(cells * one + cell for cell in range(cells) for one in before)
        return Coding(high, tuple(counts[:width]), first, cells)
    first = tuple(accumulate(counts, initial=0))[:-1]
    return Coding(high, (max(counts),), first, 1)


def one_hot(codes: Tensor, weight: Tensor, coding: Coding) -> Tensor:
    """``(R, B, C)`` codes as zeros and ones, ``(R, B, I)``, one per row of the weight.

    Args:
        codes: uint8.
        weight: ``(R, I, F)``.
        coding: of them.
    """
    shape = (*codes.shape[:2], weight.shape[1])
    zeros = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    return zeros.scatter_(2, columns(codes, coding), 1.0)


@cache
def _first_rows(coding: Coding, device: torch.device) -> Tensor:
    # A tensor that is kept must not belong to whoever asked first.
    with torch.inference_mode(False):
        return torch.tensor(coding.first, device=device)


def columns(codes: Tensor, coding: Coding) -> Tensor:
    """``(R, B, C)`` row of the weight for each code, int64."""
    return codes.long() * coding.apart + _first_rows(coding, codes.device)


def require_possible(codes: Tensor, high: tuple[int, ...]) -> None:
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
