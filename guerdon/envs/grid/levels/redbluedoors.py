"""RedBlueDoors: open the red door, then the blue one.

Reference: Farama MiniGrid, ``minigrid/envs/redbluedoors.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import BLUE, DOOR_CLOSED, RED
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    RED_BLUE,
    Level,
    blank,
    integer,
    place_agent,
    survey,
    wall_rect,
)
from guerdon.envs.grid.state import AIM_CELL, HEIGHT, TRAP_CELL, WIDTH


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, size = params[WIDTH], params[HEIGHT]
    left = size // 2
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, size)
    wall_rect(cells, width, left, 0, size, size)
    place_agent(cells, state, seed, params, left, 0, size, size)
    red = integer(state, seed, 1, size - 1) * width + left
    blue = integer(state, seed, 1, size - 1) * width + left + size - 1
    cells[red] = DOOR_CLOSED + RED
    cells[blue] = DOOR_CLOSED + BLUE
    state[TRAP_CELL] = red
    state[AIM_CELL] = blue
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
    return "open the red door then the blue door"


LEVELS = tuple(
    Level(
        name=f"RedBlueDoors-{size}x{size}",
        base=f"MiniGrid-RedBlueDoors-{size}x{size}-v0",
        width=2 * size,
        height=size,
        horizon=20 * size**2,
        blocks=("agent", "two doors"),
        begin=begin,
        mission=mission,
        rule=RED_BLUE,
        doors=2,
    )
    for size in (6, 8)
)
