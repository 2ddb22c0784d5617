"""Memory: at the end of a corridor, go to the thing that was seen at its beginning.

Reference: Farama MiniGrid, ``minigrid/envs/memory.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import BALL, EMPTY, GREEN, KEY
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    MEMORY,
    Level,
    blank,
    integer,
    larger,
    survey,
    wall_column,
    wall_rect,
    wall_row,
)
from guerdon.envs.grid.state import (
    AIM_CELL,
    ARGUMENTS,
    HEIGHT,
    POSITION,
    TRAP_CELL,
    WIDTH,
)


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane; the first argument is 1 for a random length.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, height = params[WIDTH], params[HEIGHT]
    middle = height // 2
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    end = integer(state, seed, 4, width - 2) if params[ARGUMENTS] else width - 3
    for side in (-1, 1):
        wall_row(cells, width, 1, middle + 2 * side, 4)
        wall_row(cells, width, 4, middle + side, larger(end, 5) - 4)
    wall_column(cells, width, end, 0, height)
    wall_column(cells, width, end + 2, 0, height)
    cells[middle * width + end] = EMPTY
    state[POSITION] = middle * width + integer(state, seed, 1, end + 1)
    shows_ball = integer(state, seed, 0, 2)
    key_first = integer(state, seed, 0, 2)
    cells[(middle - 1) * width + 1] = (BALL if shows_ball else KEY) + GREEN
    above, below = (middle - 2) * width + end + 1, (middle + 2) * width + end + 1
    cells[above] = (KEY if key_first else BALL) + GREEN
    cells[below] = (BALL if key_first else KEY) + GREEN
    # One of the two cells between the things is right, the other one is wrong.
    matches_above = shows_ball != key_first
    state[AIM_CELL] = above + width if matches_above else below - width
    state[TRAP_CELL] = below - width if matches_above else above + width
    survey(cells, state, params)


@compiled
def begin(
    lanes: Any, cells: Any, numbers: Any, seeds: Any, params: Any, low: Any, high: Any
) -> None:
    """A new episode for every lane from ``low`` to ``high`` that ``lanes`` names."""
    for lane in range(low, high):
        if lanes[lane]:
            generate(cells[lane], numbers[:, lane], seeds[lane], params)


def mission(a: int, b: int, c: int, d: int) -> str:
    """MiniGrid's text."""
    return "go to the matching object at the end of the hallway"


LEVELS = tuple(
    Level(
        name=f"MemoryS{size}{'Random' * varies}",
        base=f"MiniGrid-MemoryS{size}{'Random' * varies}-v0",
        width=size,
        height=size,
        horizon=5 * size**2,
        blocks=("agent", "ends"),
        begin=begin,
        mission=mission,
        rule=MEMORY,
        arguments=(varies,),
    )
    for size, varies in ((7, 0), (9, 0), (11, 0), (13, 0), (13, 1), (17, 1))
)
