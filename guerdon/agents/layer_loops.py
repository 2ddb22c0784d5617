"""Layers' activations, and the layer on one-hot codes, as compiled loops for a CPU.

Most cells of a grid look like one of a few things, a thing being the combination of a
cell's codes. So what the layer adds for a thing is computed once per cell and row, and
every observation adds one vector a cell, not one a code; and gradients are summed per
thing first.

A layer of F outputs may be that of P networks side by side; each gets its F / P of them
for itself.
"""

from __future__ import annotations

import numpy as np

from guerdon.envs.grid.compiled import compiled, inlined

Meaning = tuple[np.ndarray, np.ndarray, np.ndarray, np.int64]
"""What the codes of C cells, K of each, mean. A plain tuple, as is ``Space``, since the
call of a compiled function takes longer with any other.

``first`` ``(C, K)`` int32: the row of the weight for a code's value 0;
``high`` ``(C, K)`` uint8: the largest of each;
``radix`` ``(K,)`` int64: how many values each has;
``apart``: how many rows further on the next value's is.
"""

Space = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Memory in which the things of R rows' observations are found.

``slot`` ``(S,)`` int32: the number of a thing by what it is; -1 between two calls;
``found`` ``(R, M + 1, 3)`` int32: of each thing its slot, and the observation and the
cell in which it was seen first; behind the last one, -1;
``which`` ``(R, B, C)`` int32: which thing each cell of each observation is;
``table`` ``(M, F)`` float32: a vector for each thing of a row;
``sums`` ``(B, F)`` float32: what a row's activations are of, or the gradient by it.
"""

ZERO, ONE = np.float32(0.0), np.float32(1.0)

FAR = np.float32(9.02)
"""Beyond it tanh is one, but for some last bits of a float32."""


def _lambert() -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """Coefficients of p and q, first that of 1, with ``tanh x = x p(x^2) / q(x^2)``.

    Lambert's continued fraction, ``x / (1 + x^2 / (3 + x^2 / (5 + ...)))``, cut off
    where p and q have seven coefficients: within 4e-8 of tanh up to ``FAR``, were it
    not for the rounding of float32, which makes it 4e-7, and 1.0000002 of a one.
    """
    p, q = np.poly1d([1.0]), np.poly1d([25.0])
    for k in range(11, -1, -1):
        p, q = q, (2 * k + 1) * q + np.poly1d([1.0, 0.0]) * p
    first = q.coeffs[-1]
    ups, downs = (tuple(map(np.float32, one.coeffs[::-1] / first)) for one in (p, q))
    return ups, downs


UPS, DOWNS = _lambert()


def space_for(
    rows: int, batch: int, cells: int, radix: tuple[int, ...], width: int
) -> Space:
    """Memory for as many.

    Args:
        rows: that are computed in one call, at most.
        batch: observations of a row.
        cells: of an observation.
        radix: how many values each code of a cell has.
        width: of the layer.
    """
    kinds = int(np.prod(radix))
    most = cells * min(batch, kinds)
    return (
        np.full(cells * kinds, -1, np.int32),
        np.empty((rows, most + 1, 3), np.int32),
        np.empty((rows, batch, cells), np.int32),
        np.empty((most, width), np.float32),
        np.empty((batch, width), np.float32),
    )


@compiled
def activate_loops(values: np.ndarray, tanh: bool) -> None:
    """Apply tanh, or the larger of a number and 0, to ``(R, B, F)``, in place."""
    for r in range(len(values)):
        for b in range(values.shape[1]):
            _activate(values[r, b], tanh)


@compiled
def slope_loops(
    grads: tuple[np.ndarray, ...],
    out: np.ndarray,
    tanh: bool,
    slopes: np.ndarray,
    bias: np.ndarray,
) -> None:
    """The gradient through activations: by what they are of, and by its bias.

    Args:
        grads: P of ``(R, B, W)`` float32, of each part of ``out``.
        out: ``(P, R, B, W)`` float32, the activations.
        tanh: which activation.
        slopes: ``(R, B, F)`` float32, overwritten.
        bias: ``(R, 1, F)`` float32, overwritten.
    """
    for r in range(len(slopes)):
        _slope(grads, out, r, tanh, slopes[r], bias[r, 0])


@compiled
def gather_loops(
    codes: np.ndarray,
    meaning: Meaning,
    weight: np.ndarray,
    bias: np.ndarray,
    tanh: bool,
    out: np.ndarray,
    space: Space,
) -> bool:
    """``f(bias[r] + sum of weight[r, first[c, k] + apart * codes[r, b, c, k]])``.

    What an observation gets depends on no other: the order of its sum is that of the
    codes of a cell, then that of the cells.

    Args:
        codes: ``(R, B, C, K)`` uint8.
        meaning: of the codes.
        weight: ``(R, I, F)`` float32.
        bias: ``(R, 1, F)`` float32.
        tanh: which f, as in ``activate_loops``.
        out: ``(P, R, B, W)`` float32, overwritten.
        space: of these sizes; what is found stays in it for the gradient.

    Returns:
        Whether every code was possible; nothing is true of ``out`` where one was not.
    """
    slot, found, which, table, sums = space
    for r in range(len(codes)):
        if not _find(codes[r], meaning, slot, found[r], which[r]):
            return False
        _tell(codes[r], meaning, weight[r], found[r], table)
        _add_up(bias[r, 0], which[r], table, sums)
        for b in range(len(sums)):
            _activate(sums[b], tanh)
            _part(sums[b], out, r, b)
    return True


@compiled
def scatter_loops(
    codes: np.ndarray,
    meaning: Meaning,
    grads: tuple[np.ndarray, ...],
    out: np.ndarray,
    tanh: bool,
    total: np.ndarray,
    marks: np.ndarray,
    bias: np.ndarray,
    space: Space,
) -> None:
    """The gradient of ``gather_loops`` by its weight and its bias.

    Args:
        codes: ``(R, B, C, K)`` uint8, for which ``gather_loops`` was called last.
        meaning: of the codes.
        grads: P of ``(R, B, W)`` float32, of each part of ``out``.
        out: what it has written.
        tanh: what it was called with.
        total: ``(R, I, F)`` float32, overwritten: by the weight.
        marks: ``(R, I)`` bool, where ``total`` is not zero; kept from call to call.
        bias: ``(R, 1, F)`` float32, overwritten.
        space: which it was called with.
    """
    _, found, which, table, sums = space
    for r in range(len(codes)):
        _clear(total[r], marks[r])
        _slope(grads, out, r, tanh, sums, bias[r, 0])
        _collect(sums, found[r], which[r], table)
        _spread(codes[r], meaning, found[r], table, total[r], marks[r])


@inlined
def _find(
    codes: np.ndarray,
    meaning: Meaning,
    slot: np.ndarray,
    found: np.ndarray,
    which: np.ndarray,
) -> bool:
    """Number the things of a row's ``(B, C, K)`` codes.

    False for a code above its highest, for which there is no memory.
    """
    _, high, radix, _ = meaning
    batch, cells, parts = codes.shape
    possible = True
    for b in range(batch):
        flat, most = codes[b].reshape(-1), high.reshape(-1)
        for i in range(len(flat)):
            possible &= flat[i] <= most[i]
    if not possible:
        return False
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
    found[count, 0] = -1
    for s in range(count):
        slot[found[s, 0]] = -1
    return True


@inlined
def _tell(
    codes: np.ndarray,
    meaning: Meaning,
    weight: np.ndarray,
    found: np.ndarray,
    table: np.ndarray,
) -> None:
    """Write what the layer adds for each thing into the table."""
    first, _, _, apart = meaning
    s = 0
    while found[s, 0] >= 0:
        b, c, into = found[s, 1], found[s, 2], table[s]
        values = weight[first[c, 0] + apart * codes[b, c, 0]]
        for i in range(len(into)):
            into[i] = values[i]
        for k in range(1, codes.shape[2]):
            values = weight[first[c, k] + apart * codes[b, c, k]]
            for i in range(len(into)):
                into[i] += values[i]
        s += 1


@inlined
def _add_up(
    bias: np.ndarray, which: np.ndarray, table: np.ndarray, sums: np.ndarray
) -> None:
    """Sum what the things of each observation add, ``(B, F)``."""
    batch, cells = which.shape
    width = len(bias)
    in_sevens = cells - cells % 7
    for b in range(batch):
        total, thing = sums[b], which[b]
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
def _activate(values: np.ndarray, tanh: bool) -> None:
    if tanh:
        for i in range(len(values)):
            values[i] = _tanh(values[i])
    else:  # what is no number stays what it is
        for i in range(len(values)):
            values[i] = ZERO if values[i] < ZERO else values[i]


@inlined
def _part(values: np.ndarray, out: np.ndarray, r: int, b: int) -> None:
    """Give each of the parts ``(P, R, B, W)`` its own of an observation's numbers."""
    width = out.shape[3]
    for p in range(len(out)):
        into = out[p, r, b]
        for i in range(width):
            into[i] = values[p * width + i]


@inlined
def _slope(
    grads: tuple[np.ndarray, ...],
    out: np.ndarray,
    r: int,
    tanh: bool,
    slopes: np.ndarray,
    bias: np.ndarray,
) -> None:
    """A row's gradient ``(B, F)`` through its activations, and its sum ``(F,)``."""
    width = out.shape[3]
    for i in range(len(bias)):
        bias[i] = ZERO
    for b in range(len(slopes)):
        for p in range(len(grads)):
            grad, told = grads[p][r, b], out[p, r, b]
            into, total = slopes[b, p * width :], bias[p * width :]
            for i in range(width):
                if tanh:
                    slope = grad[i] * (ONE - told[i] * told[i])
                else:
                    slope = grad[i] if told[i] > ZERO else ZERO
                into[i] = slope
                total[i] += slope


@inlined
def _tanh(x: np.float32) -> np.float32:
    """Within some last bits of tanh, in an eighth of the time of torch's.

    Both ifs are a choice of numbers to the machine, so several x go at once.
    """
    if x > FAR:
        x = FAR
    if x < -FAR:
        x = -FAR
    y = x * x
    p = UPS[4] + y * (UPS[5] + y * UPS[6])
    p = UPS[0] + y * (UPS[1] + y * (UPS[2] + y * (UPS[3] + y * p)))
    q = DOWNS[4] + y * (DOWNS[5] + y * DOWNS[6])
    q = DOWNS[0] + y * (DOWNS[1] + y * (DOWNS[2] + y * (DOWNS[3] + y * q)))
    return x * p / q


@inlined
def _clear(total: np.ndarray, marks: np.ndarray) -> None:
    """Zero what the gradient before has written."""
    for v in range(len(marks)):
        if marks[v]:
            marks[v] = False
            into = total[v]
            for i in range(len(into)):
                into[i] = ZERO


@inlined
def _collect(
    slopes: np.ndarray, found: np.ndarray, which: np.ndarray, table: np.ndarray
) -> None:
    """Sum the gradients ``(B, F)`` of each thing into the table."""
    width = slopes.shape[1]
    s = 0
    while found[s, 0] >= 0:
        into = table[s]
        for i in range(width):
            into[i] = ZERO
        s += 1
    for b in range(len(which)):
        values, thing = slopes[b], which[b]
        for c in range(len(thing)):
            into = table[thing[c]]
            for i in range(width):
                into[i] += values[i]


@inlined
def _spread(
    codes: np.ndarray,
    meaning: Meaning,
    found: np.ndarray,
    table: np.ndarray,
    total: np.ndarray,
    marks: np.ndarray,
) -> None:
    """Add each thing's gradient to the weights of its codes, ``(I, F)``."""
    first, _, _, apart = meaning
    s = 0
    while found[s, 0] >= 0:
        b, c, values = found[s, 1], found[s, 2], table[s]
        for k in range(codes.shape[2]):
            v = first[c, k] + apart * codes[b, c, k]
            marks[v] = True
            into = total[v]
            for i in range(len(into)):
                into[i] += values[i]
        s += 1
