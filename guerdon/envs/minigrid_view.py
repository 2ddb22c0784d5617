"""MiniGrid's egocentric view, computed without copying and turning the grid.

MiniGrid builds three new grids of Python objects for every observation, which is
most of the time of a step. This reads the visible cells from the grid in place, in
the order in which sight spreads, and gives the same bytes; a differential test says
so for every level.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from guerdon.extras import require

_AHEAD = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Unit vectors of MiniGrid's four directions: right, down, left, up."""

_EMPTY = b"\x01\x00\x00"
"""An empty cell in MiniGrid's encoding; a cell out of sight is three zeros."""


def use_fast_view(env: Any) -> bool:
    """Let a MiniGrid environment compute its observations in place.

    Args:
        env: an environment, wrapped or not. One that has its own way to observe is
            left as it is.

    Returns:
        Whether the fast view is in use.
    """
    base = require("minigrid.minigrid_env", "minigrid").MiniGridEnv
    raw = env.unwrapped
    own = type(raw)
    if (
        not isinstance(raw, base)
        or own.gen_obs is not base.gen_obs
        or own.gen_obs_grid is not base.gen_obs_grid
    ):
        return False
    raw.gen_obs = lambda: {
        "image": visible_image(raw),
        "direction": raw.agent_dir,
        "mission": raw.mission,
    }
    return True


def visible_image(env: Any) -> np.ndarray:
    """What the agent sees.

    Args:
        env: an unwrapped MiniGrid environment.

    Returns:
        ``(size, size, 3)`` uint8, first axis from left to right, second one from
        far to near: the agent stands in the middle of the last row.
    """
    size = env.agent_view_size
    grid = env.grid
    cells, width, height = grid.grid, grid.width, grid.height
    forward_x, forward_y = _AHEAD[env.agent_dir]
    middle = size // 2
    # The far left end of the nearest row; to the right is a quarter turn onwards.
    row_x = int(env.agent_pos[0]) + forward_y * middle
    row_y = int(env.agent_pos[1]) - forward_x * middle
    image = bytearray(3 * size * size)
    through = env.see_through_walls
    seen = (1 << size) - 1 if through else 1 << middle
    for far in range(size - 1, -1, -1):
        opaque = 0
        codes = []
        x, y = row_x, row_y
        for i in range(size):
            if 0 <= x < width and 0 <= y < height:
                cell = cells[y * width + x]
                if cell is None:
                    codes.append(_EMPTY)
                else:
                    code, blocks = _look(cell)
                    codes.append(code)
                    if blocks:
                        opaque |= 1 << i
            else:
                codes.append(_WALL)
                opaque |= 1 << i
            x -= forward_y
            y += forward_x
        seen, beyond = (seen, seen) if through else _spread(size, seen, opaque)
        if far == size - 1:
            carried = env.carrying
            codes[middle] = _EMPTY if carried is None else bytes(carried.encode())
        place = 3 * far
        for i in range(size):
            if seen >> i & 1:
                image[place : place + 3] = codes[i]
            place += 3 * size
        if not beyond:
            break
        seen = beyond
        row_x += forward_x
        row_y += forward_y
    return np.frombuffer(image, np.uint8).reshape(size, size, 3)


_WALL = b"\x02\x05\x00"
"""A grey wall, which is also what lies outside the grid."""


def _look(cell: Any) -> tuple[bytes, bool]:
    """Code of an object, and whether it blocks the sight."""
    if cell.type == "wall":
        return _WALL if cell.color == "grey" else bytes(cell.encode()), True
    return bytes(cell.encode()), not cell.see_behind()


@cache
def _spread(size: int, seen: int, opaque: int) -> tuple[int, int]:
    """How sight spreads along a row and to the next one.

    From each seen cell that is not opaque it reaches the neighbour, first from left
    to right, then back, and the cells beyond both.

    Args:
        size: cells in the row.
        seen: bit ``i`` says that cell ``i`` is seen from the row before.
        opaque: bit ``i`` says that cell ``i`` blocks the sight.

    Returns:
        The cells seen in this row and those seen in the next one.
    """
    beyond = 0
    for cells, step in ((range(size - 1), 1), (range(size - 1, 0, -1), -1)):
        for i in cells:
            if seen >> i & 1 and not opaque >> i & 1:
                seen |= 1 << (i + step)
                beyond |= 1 << i | 1 << (i + step)
    return seen, beyond
