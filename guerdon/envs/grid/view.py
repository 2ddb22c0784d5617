"""What the agent sees: MiniGrid's egocentric view with its occlusion, or everything.

Sight spreads row by row, away from the agent. Where it ends, the rest of the image is
zeros and is not looked at, which is most of it in a small room.

Reference: Farama MiniGrid, ``Grid.process_vis`` and ``FullyObsWrapper``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from guerdon.envs.grid.cells import (
    AGENT,
    EMPTY,
    ENCODING,
    FIRST_OPAQUE,
)
from guerdon.envs.grid.compiled import compiled, inlined
from guerdon.envs.grid.state import (
    CARRYING,
    DIRECTION,
    HEIGHT,
    POSITION,
    THROUGH,
    VIEW,
    WIDTH,
)

SIZES = (3, 5, 7, 9, 11)
"""Cells along a side of an egocentric view."""

FULL = 0
"""In place of a size: the whole grid, seen from above."""

PACKED = tuple(int(a) | int(b) << 8 | int(c) << 16 for a, b, c in ENCODING.tolist())
"""The three bytes of every code in one integer: one look-up a cell."""

_PACKED = np.array(PACKED, np.uint32)


@cache
def view_table(width: int, height: int, size: int) -> np.ndarray:
    """Which cell of the grid each cell of a view shows.

    Args:
        width: columns of the grid.
        height: rows of the grid.
        size: cells along a side of the view; ``FULL`` needs no table.

    Returns:
        ``(W * H * 4, size, size)`` int16, by ``cell * 4 + direction``, then from the
        agent's row away from it, then from left to right. What is outside of the grid
        is cell ``W * H``, the wall at the end.
    """
    if size == FULL:
        return np.zeros((1, 1, 1), np.int16)
    y, x, direction, row, i = np.ogrid[:height, :width, :4, :size, :size]
    ahead_x = np.array([1, 0, -1, 0])[direction]
    ahead_y = np.array([0, 1, 0, -1])[direction]
    aside = i - size // 2
    column = x + ahead_x * row - ahead_y * aside
    line = y + ahead_y * row + ahead_x * aside
    inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    table = np.where(inside, line * width + column, width * height).astype(np.int16)
    table = np.ascontiguousarray(table.reshape(width * height * 4, size, size))
    table.flags.writeable = False
    return table


def view_shape(width: int, height: int, size: int) -> tuple[int, int, int]:
    """Shape of an image: columns, rows and three bytes a cell."""
    return (width, height, 3) if size == FULL else (size, size, 3)


@inlined
def spread(seen: Any, opaque: Any, size: Any) -> Any:
    """How sight spreads along a row and to the next one, on bit masks.

    From each seen cell that is not opaque it reaches the neighbour, first from left to
    right, then back, and the cells beyond both. A pass along the row is a flood of
    bits, whose reach doubles with every line.

    Args:
        seen: bit ``i`` says that cell ``i`` is seen from the row before.
        opaque: bit ``i`` says that cell ``i`` blocks the sight.
        size: cells in the row, at most 16.

    Returns:
        The cells seen in this row and those seen in the next one.
    """
    full = (1 << size) - 1
    clear = full & ~opaque
    path = (clear << 1) & full
    seen |= path & (seen << 1)
    path &= path << 1
    seen |= path & (seen << 2)
    path &= path << 2
    seen |= path & (seen << 4)
    path &= path << 4
    seen |= path & (seen << 8)
    source = seen & clear & (full >> 1)
    beyond = source | (source << 1)
    path = clear >> 1
    seen |= path & (seen >> 1)
    path &= path >> 1
    seen |= path & (seen >> 2)
    path &= path >> 2
    seen |= path & (seen >> 4)
    path &= path >> 4
    seen |= path & (seen >> 8)
    source = seen & clear & ~1
    return seen, beyond | source | (source >> 1)


@inlined
def _look(
    cells: Any, lane: Any, pose: Any, held: Any, through: Any, size: Any, table: Any,
    out: Any,
) -> None:  # fmt: skip
    """The egocentric image of one lane; see ``observe``."""
    for byte in range(3 * size * size):
        out[lane, byte] = 0
    seen = (1 << size) - 1 if through else 1 << (size // 2)
    for row in range(size):
        beyond = seen
        if not through:
            opaque = 0
            for i in range(size):
                blocks = cells[lane, table[pose, row, i]] >= FIRST_OPAQUE
                opaque |= int(blocks) << i
            seen, beyond = spread(seen, opaque, size)
        for i in range(size):
            code = cells[lane, table[pose, row, i]] * ((seen >> i) & 1)
            _show(code, lane, 3 * (i * size + size - 1 - row), out)
        if beyond == 0:
            break
        seen = beyond
    # The agent sees what it carries, in place of itself.
    _show(held if held > 0 else EMPTY, lane, 3 * (size // 2 * size + size - 1), out)


@compiled
def _look_7(
    cells: Any, lane: Any, pose: Any, held: Any, through: Any, table: Any, out: Any
) -> None:
    """The usual size; with a constant the loops over a row become straight code."""
    _look(cells, lane, pose, held, through, 7, table, out)


@inlined
def _show(code: Any, lane: Any, place: Any, out: Any) -> None:
    """Write the three bytes of a code."""
    packed = _PACKED[code]
    out[lane, place] = packed & 255
    out[lane, place + 1] = (packed >> 8) & 255
    out[lane, place + 2] = packed >> 16


@compiled
def observe(
    cells: Any, numbers: Any, lane: Any, params: Any, table: Any, out: Any
) -> None:
    """Write what the agent of one lane sees.

    Args:
        cells: ``(N, H * W + 1)`` uint8.
        numbers: ``(K, N)`` int32.
        lane: which one.
        params: of the level.
        table: of ``view_table``.
        out: ``(N, size * size * 3)`` uint8: first axis from left to right, second one
            from far to near, then object, colour and state. The whole grid is written
            column by column, with the agent in it.
    """
    size = params[VIEW]
    position = numbers[POSITION, lane]
    direction = numbers[DIRECTION, lane]
    if size == FULL:
        _look_from_above(cells, lane, position, direction, params, out)
        return
    pose = position * 4 + direction
    held = numbers[CARRYING, lane]
    if size == 7:
        _look_7(cells, lane, pose, held, params[THROUGH], table, out)
    else:
        _look(cells, lane, pose, held, params[THROUGH], size, table, out)


@inlined
def _look_from_above(
    cells: Any, lane: Any, position: Any, direction: Any, params: Any, out: Any
) -> None:
    """The whole grid, column by column, with the agent in its cell."""
    width, height = params[WIDTH], params[HEIGHT]
    for x in range(width):
        for y in range(height):
            cell = y * width + x
            code = AGENT + direction if cell == position else int(cells[lane, cell])
            _show(code, lane, 3 * (x * height + y), out)
