"""FourRooms: four rooms joined by one opening in each of the walls between them.

Reference: Farama MiniGrid, ``minigrid/envs/fourrooms.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import EMPTY, GREEN_GOAL
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    Level,
    blank,
    free_cell,
    integer,
    place_agent,
    survey,
    wall_column,
    wall_rect,
    wall_row,
)
from guerdon.envs.grid.state import HEIGHT, WIDTH


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, height = params[WIDTH], params[HEIGHT]
    across, down = width // 2, height // 2
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    for j in range(2):
        for i in range(2):
            left, top = i * across, j * down
            if i == 0:
                wall_column(cells, width, left + across, top, down)
                y = integer(state, seed, top + 1, top + down)
                cells[y * width + left + across] = EMPTY
            if j == 0:
                wall_row(cells, width, left, top + down, across)
                x = integer(state, seed, left + 1, left + across)
                cells[(top + down) * width + x] = EMPTY
    place_agent(cells, state, seed, params, 0, 0, width, height)
    goal = free_cell(cells, state, seed, params, 0, 0, width, height)
    cells[goal] = GREEN_GOAL
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
    return "reach the goal"


LEVELS = (
    Level(
        name="FourRooms",
        base="MiniGrid-FourRooms-v0",
        width=19,
        height=19,
        horizon=100,
        blocks=("agent", "goal"),
        begin=begin,
        mission=mission,
    ),
)
