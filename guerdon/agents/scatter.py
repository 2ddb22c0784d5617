"""The one sum that torch is slow at on a CPU, as compiled loops."""

from __future__ import annotations

import numpy as np

from guerdon.envs.grid.compiled import compiled, require_compiler
from guerdon.extras import MissingExtra


def available() -> bool:
    """Whether there is a compiler; without it the loops would run as plain Python."""
    try:
        require_compiler()
    except MissingExtra:
        return False
    return True


def scatter_sum(
    codes: np.ndarray,
    offsets: np.ndarray,
    radix: np.ndarray,
    grad: np.ndarray,
    total: np.ndarray,
) -> None:
    """``total[r, offsets[c, k] + codes[r, b, c, k]] += grad[r, b]`` for all of them.

    Most cells of a grid look like one of a few things, so gradients are summed per
    thing, the combination of a cell's codes, and then added once per code of it.

    Args:
        codes: ``(R, B, C, K)`` uint8, K codes of each of C cells.
        offsets: ``(C, K)`` int32, first row of each code's values.
        radix: ``(K,)`` int64, how many values each code has; a few thousand
            combinations at most.
        grad: ``(R, B, F)`` float32.
        total: ``(R, I, F)`` float32, added to.
    """
    batch, width = grad.shape[1:]
    slot = np.full(int(radix.prod()), -1, np.int64)
    things = np.empty((2, batch), np.int64)
    sums = np.empty((batch, width), np.float32)
    _loops(codes, offsets, radix, grad, total, slot, things, sums)


@compiled
def _loops(
    codes: np.ndarray,
    offsets: np.ndarray,
    radix: np.ndarray,
    grad: np.ndarray,
    total: np.ndarray,
    slot: np.ndarray,
    things: np.ndarray,
    sums: np.ndarray,
) -> None:
    """``scatter_sum`` with its own memory: ``slot`` holds -1 between cells."""
    rows, batch, cells, parts = codes.shape
    width = grad.shape[2]
    for r in range(rows):
        for c in range(cells):
            found = 0
            for b in range(batch):
                key = 0
                for k in range(parts):
                    key = key * radix[k] + codes[r, b, c, k]
                values = grad[r, b]
                if slot[key] < 0:
                    slot[key], things[0, found], things[1, found] = found, key, b
                    into = sums[found]
                    for i in range(width):
                        into[i] = values[i]
                    found += 1
                else:
                    into = sums[slot[key]]
                    for i in range(width):
                        into[i] += values[i]
            for s in range(found):
                slot[things[0, s]] = -1
                values = sums[s]
                for k in range(parts):
                    row = offsets[c, k] + codes[r, things[1, s], c, k]
                    into = total[r, row]
                    for i in range(width):
                        into[i] += values[i]
