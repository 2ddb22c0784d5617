"""A linear layer on one-hot codes and its gradient, as compiled loops for a CPU.

Most cells of a grid look like one of a few things, a thing being the combination of a
cell's codes. So what the layer adds for a thing is computed once per cell and row, and
every observation adds one vector a cell, not one a code; and gradients are summed per
thing first.
"""

from __future__ import annotations

import numpy as np

from guerdon.envs.grid.compiled import compiled, inlined

Meaning = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What the codes of C cells, K of each, mean. A plain tuple, as is ``Space``, since the
call of a compiled function takes longer with any other.

``offsets`` ``(C, K)`` int32: the first row of a code's values in the weight;
``high`` ``(C, K)`` uint8: the largest of each;
``radix`` ``(K,)`` int64: how many values each has.
"""

Space = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Memory in which the things of one row's observations are found.

``slot`` ``(S,)`` int32: the number of a thing by what it is; -1 between two calls;
``found`` ``(M, 3)`` int32: of each thing its slot, and the observation and the cell in
which it was seen first;
``which`` ``(B, C)`` int32: which thing each cell of each observation is;
``table`` ``(M, F)`` float32: a vector for each thing.
"""


def space_for(batch: int, cells: int, radix: tuple[int, ...], width: int) -> Space:
    """A workspace.

    Args:
        batch: observations of a row.
        cells: of an observation.
        radix: how many values each code of a cell has.
        width: of the layer.
    """
    kinds = int(np.prod(radix))
    most = cells * min(batch, kinds)
    return (
        np.full(cells * kinds, -1, np.int32),
        np.empty((most, 3), np.int32),
        np.empty((batch, cells), np.int32),
        np.empty((most, width), np.float32),
    )


@compiled
def gather_loops(
    codes: np.ndarray,
    meaning: Meaning,
    weight: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    space: Space,
) -> bool:
    """``out[r, b] = bias[r] + sum of weight[r, offsets[c, k] + codes[r, b, c, k]]``.

    What an observation gets depends on no other: the order of its sum is that of the
    codes of a cell, then that of the cells.

    Args:
        codes: ``(R, B, C, K)`` uint8.
        meaning: of the codes.
        weight: ``(R, I, F)`` float32.
        bias: ``(R, 1, F)`` float32.
        out: ``(R, B, F)`` float32, overwritten.
        space: of these sizes.

    Returns:
        Whether every code was possible; nothing is true of ``out`` where one was not.
    """
    for r in range(len(codes)):
        count = _find(codes[r], meaning, space)
        if count < 0:
            return False
        _tell(codes[r], meaning, weight[r], space, count)
        _add_up(bias[r, 0], space, out[r])
    return True


@compiled
def scatter_loops(
    codes: np.ndarray,
    meaning: Meaning,
    grad: np.ndarray,
    total: np.ndarray,
    space: Space,
) -> bool:
    """``total[r, offsets[c, k] + codes[r, b, c, k]] += grad[r, b]`` for all of them.

    Args:
        codes: ``(R, B, C, K)`` uint8.
        meaning: of the codes.
        grad: ``(R, B, F)`` float32.
        total: ``(R, I, F)`` float32, added to.
        space: of these sizes.

    Returns:
        Whether every code was possible; nothing is true of ``total`` where one was not.
    """
    for r in range(len(codes)):
        count = _find(codes[r], meaning, space)
        if count < 0:
            return False
        _collect(grad[r], space, count)
        _spread(codes[r], meaning, space, count, total[r])
    return True


@inlined
def _find(codes: np.ndarray, meaning: Meaning, space: Space) -> int:
    """Number the things of a row's ``(B, C, K)`` codes; how many there are.

    -1 for a code above its highest, for which there is no memory.
    """
    _, high, radix = meaning
    slot, found, which, _ = space
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


@inlined
def _tell(
    codes: np.ndarray, meaning: Meaning, weight: np.ndarray, space: Space, count: int
) -> None:
    """Write what the layer adds for each thing into the table."""
    offsets, _, _ = meaning
    _, found, _, table = space
    for s in range(count):
        b, c, into = found[s, 1], found[s, 2], table[s]
        values = weight[offsets[c, 0] + codes[b, c, 0]]
        for i in range(len(into)):
            into[i] = values[i]
        for k in range(1, codes.shape[2]):
            values = weight[offsets[c, k] + codes[b, c, k]]
            for i in range(len(into)):
                into[i] += values[i]


@inlined
def _add_up(bias: np.ndarray, space: Space, out: np.ndarray) -> None:
    """Sum what the things of each observation add, ``(B, F)``."""
    _, _, which, table = space
    batch, cells = which.shape
    width = len(bias)
    in_sevens = cells - cells % 7
    for b in range(batch):
        total, thing = out[b], which[b]
        for i in range(width):
            total[i] = bias[i]
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


@inlined
def _collect(grad: np.ndarray, space: Space, count: int) -> None:
    """Sum the gradients ``(B, F)`` of each thing into the table."""
    _, _, which, table = space
    width = grad.shape[1]
    for s in range(count):
        into = table[s]
        for i in range(width):
            into[i] = 0.0
    for b in range(len(which)):
        values, thing = grad[b], which[b]
        for c in range(len(thing)):
            into = table[thing[c]]
            for i in range(width):
                into[i] += values[i]


@inlined
def _spread(
    codes: np.ndarray, meaning: Meaning, space: Space, count: int, total: np.ndarray
) -> None:
    """Add each thing's gradient to the weights of its codes, ``(I, F)``."""
    offsets, _, _ = meaning
    _, found, _, table = space
    for s in range(count):
        b, c, values = found[s, 1], found[s, 2], table[s]
        for k in range(codes.shape[2]):
            into = total[offsets[c, k] + codes[b, c, k]]
            for i in range(len(into)):
                into[i] += values[i]
