"""DoorKey: fetch the key, open the door in the wall, and go to the goal behind it.

Reference: Farama MiniGrid, ``minigrid/envs/doorkey.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import DOOR_LOCKED, GREEN_GOAL, KEY, YELLOW
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
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    cells[(height - 2) * width + width - 2] = GREEN_GOAL
    split = integer(state, seed, 2, width - 2)
    wall_column(cells, width, split, 0, height)
    place_agent(cells, state, seed, params, 0, 0, split, height)
    door = integer(state, seed, 1, width - 2)
    cells[door * width + split] = DOOR_LOCKED + YELLOW
    key = free_cell(cells, state, seed, params, 0, 0, split, height)
    cells[key] = KEY + YELLOW
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
    return "use the key to open the door and then get to the goal"


LEVELS = tuple(
    Level(
        name=f"DoorKey-{size}x{size}",
        base=f"MiniGrid-DoorKey-{size}x{size}-v0",
        width=size,
        height=size,
        horizon=10 * size**2,
        blocks=("agent", "goal", "key", "door"),
        begin=begin,
        mission=mission,
        doors=1,
    )
    for size in (5, 6, 8, 16)
)
