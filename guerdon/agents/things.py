"""A linear layer on one-hot codes and its gradient, as compiled loops for a CPU.

Most cells of a grid look like one of a few things, a thing being the combination of a
cell's codes. So what the layer adds for a thing is computed once per cell and row, and
every observation adds one vector a cell, not one a code; and gradients are summed per
thing first.
"""

from __future__ import annotations

import numpy as np

from guerdon.envs.grid.compiled import compiled, inlined


class Workspace:
    """Memory in which the things of one row's observations are found.

    Args:
        batch: observations of a row.
        cells: of an observation.
        radix: ``(K,)`` how many values each code of a cell has.
        width: of the layer.
    """

    def __init__(self, batch: int, cells: int, radix: np.ndarray, width: int) -> None:
        kinds = int(radix.prod())
        self.slot = np.full(cells * kinds, -1, np.int32)
        most = cells * min(batch, kinds)
        self.found = np.empty((most, 3), np.int32)
        self.which = np.empty((batch, cells), np.int32)
        self.table = np.empty((most, width), np.float32)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """For the loops: ``slot`` holds -1 between two calls."""
        return self.slot, self.found, self.which, self.table


@inlined
def _find(
    codes: np.ndarray,
    high: np.ndarray,
    radix: np.ndarray,
    slot: np.ndarray,
    found: np.ndarray,
    which: np.ndarray,
) -> int:
    """Number the things of a row's ``(B, C, K)`` codes; how many there are.

    ``which[b, c]`` becomes the number of a thing, and ``found[s]`` its place there with
    the ``b`` and ``c`` where it was seen first. -1 for a code above its highest, for
    which there is no memory.
    """
    batch, cells, parts = codes.shape
    for b in range(batch):
        for c in range(cells):
            for k in range(parts):
                if codes[b, c, k] > high[c, k]:
                    return -1
    count = 0
    for b in range(batch):
        for c in range(cells):
            key = c
            for k in range(parts):
                key = key * radix[k] + codes[b, c, k]
            s = slot[key]
            if s < 0:
                s = count
                slot[key] = s
                found[s, 0], found[s, 1], found[s, 2] = key, b, c
                count += 1
            which[b, c] = s
    for s in range(count):
        slot[found[s, 0]] = -1
    return count


@compiled
def gather_loops(
    codes: np.ndarray,
    offsets: np.ndarray,
    high: np.ndarray,
    radix: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    slot: np.ndarray,
    found: np.ndarray,
    which: np.ndarray,
    table: np.ndarray,
) -> bool:
    """``out[r, b] = bias[r] + sum of weight[r, offsets[c, k] + codes[r, b, c, k]]``.

    What an observation gets depends on no other: the order of its sum is that of the
    codes of a cell, then that of the cells.

    Args:
        codes: ``(R, B, C, K)`` uint8, K codes of each of C cells.
        offsets: ``(C, K)`` int32, first row of each code's values.
        high: ``(C, K)`` uint8, the largest of each.
        radix: ``(K,)`` int64, how many values each code has.
        weight: ``(R, I, F)`` float32.
        bias: ``(R, 1, F)`` float32.
        out: ``(R, B, F)`` float32, overwritten.
        slot: as those behind it, of a ``Workspace``.
        found: see ``slot``.
        which: see ``slot``.
        table: see ``slot``.

    Returns:
        Whether every code was possible; nothing is true of ``out`` where one was not.
    """
    rows, batch, cells, parts = codes.shape
    width = weight.shape[2]
    in_sevens = cells - cells % 7
    for r in range(rows):
        count = _find(codes[r], high, radix, slot, found, which)
        if count < 0:
            return False
        for s in range(count):
            b, c, into = found[s, 1], found[s, 2], table[s]
            values = weight[r, offsets[c, 0] + codes[r, b, c, 0]]
            for i in range(width):
                into[i] = values[i]
            for k in range(1, parts):
                values = weight[r, offsets[c, k] + codes[r, b, c, k]]
                for i in range(width):
                    into[i] += values[i]
        for b in range(batch):
            total, thing = out[r, b], which[b]
            for i in range(width):
                total[i] = bias[r, 0, i]
            # Seven at a time, so that the total is not written after each.
            for c in range(0, in_sevens, 7):
                t0, t1, t2 = table[thing[c]], table[thing[c + 1]], table[thing[c + 2]]
                t3, t4 = table[thing[c + 3]], table[thing[c + 4]]
                t5, t6 = table[thing[c + 5]], table[thing[c + 6]]
                for i in range(width):
                    first = total[i] + t0[i] + t1[i] + t2[i]
                    total[i] = first + t3[i] + t4[i] + t5[i] + t6[i]
            for c in range(in_sevens, cells):
                values = table[thing[c]]
                for i in range(width):
                    total[i] += values[i]
    return True


@compiled
def scatter_loops(
    codes: np.ndarray,
    offsets: np.ndarray,
    high: np.ndarray,
    radix: np.ndarray,
    grad: np.ndarray,
    total: np.ndarray,
    slot: np.ndarray,
    found: np.ndarray,
    which: np.ndarray,
    table: np.ndarray,
) -> bool:
    """``total[r, offsets[c, k] + codes[r, b, c, k]] += grad[r, b]`` for all of them.

    Args:
        codes: ``(R, B, C, K)`` uint8, K codes of each of C cells.
        offsets: ``(C, K)`` int32, first row of each code's values.
        high: ``(C, K)`` uint8, the largest of each.
        radix: ``(K,)`` int64, how many values each code has.
        grad: ``(R, B, F)`` float32.
        total: ``(R, I, F)`` float32, added to.
        slot: as those behind it, of a ``Workspace``.
        found: see ``slot``.
        which: see ``slot``.
        table: see ``slot``.

    Returns:
        Whether every code was possible; nothing is true of ``total`` where one was not.
    """
    rows, batch, cells, parts = codes.shape
    width = grad.shape[2]
    for r in range(rows):
        count = _find(codes[r], high, radix, slot, found, which)
        if count < 0:
            return False
        for s in range(count):
            into = table[s]
            for i in range(width):
                into[i] = 0.0
        for b in range(batch):
            values, thing = grad[r, b], which[b]
            for c in range(cells):
                into = table[thing[c]]
                for i in range(width):
                    into[i] += values[i]
        for s in range(count):
            b, c, values = found[s, 1], found[s, 2], table[s]
            for k in range(parts):
                into = total[r, offsets[c, k] + codes[r, b, c, k]]
                for i in range(width):
                    into[i] += values[i]
    return True
