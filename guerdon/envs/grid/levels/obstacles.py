"""Dynamic-Obstacles: balls that wander about in an empty room.

Reference: Farama MiniGrid, ``minigrid/envs/dynamicobstacles.py``. MiniGrid gives up on
a level when a ball finds no place in 101 tries, with a chance below 1e-11; the tries
are not counted here.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import BALL, BLUE, GREEN_GOAL
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    OBSTACLES,
    Level,
    blank,
    free_cell,
    place_agent,
    survey,
    wall_rect,
)
from guerdon.envs.grid.state import (
    ARGUMENTS,
    COUNT,
    HEIGHT,
    LIST,
    LISTED,
    POSITION,
    WIDTH,
)


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane; the first argument is 1 for a random start.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, height = params[WIDTH], params[HEIGHT]
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    cells[(height - 2) * width + width - 2] = GREEN_GOAL
    if params[ARGUMENTS]:
        place_agent(cells, state, seed, params, 0, 0, width, height)
    else:
        state[POSITION] = width + 1
    state[COUNT] = params[LISTED]
    for index in range(params[LISTED]):
        cell = free_cell(cells, state, seed, params, 0, 0, width, height)
        cells[cell] = BALL + BLUE
        state[LIST + index] = cell
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
    return "get to the green goal square"


LEVELS = tuple(
    Level(
        name=f"Dynamic-Obstacles{'-Random' * start}-{size}x{size}",
        base=f"MiniGrid-Dynamic-Obstacles{'-Random' * start}-{size}x{size}-v0",
        width=size,
        height=size,
        horizon=4 * size**2,
        blocks=("agent", "goal", "obstacles"),
        begin=begin,
        mission=mission,
        rule=OBSTACLES,
        through=True,
        listed=balls,
        arguments=(start,),
        actions=3,
    )
    for start, size, balls in (
        (0, 5, 2),
        (1, 5, 2),
        (0, 6, 3),
        (1, 6, 3),
        (0, 8, 4),
        (0, 16, 8),
    )
)
