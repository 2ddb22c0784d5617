"""LavaGap: a river of lava with one gap in it.

Reference: Farama MiniGrid, ``minigrid/envs/lavagap.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import EMPTY, GREEN_GOAL, LAVA
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import Level, blank, integer, survey, wall_rect
from guerdon.envs.grid.state import ACROSS, GAP_CELL, HEIGHT, POSITION, WIDTH


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
    state[POSITION] = width + 1
    cells[(height - 2) * width + width - 2] = GREEN_GOAL
    x = integer(state, seed, 2, width - 2)
    gap = integer(state, seed, 1, height - 1) * width + x
    for y in range(1, height - 1):
        cells[y * width + x] = LAVA
    cells[gap] = EMPTY
    state[GAP_CELL] = gap
    state[ACROSS] = 0
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
    return "avoid the lava and get to the green goal square"


LEVELS = tuple(
    Level(
        name=f"LavaGapS{size}",
        base=f"MiniGrid-LavaGapS{size}-v0",
        width=size,
        height=size,
        horizon=4 * size**2,
        blocks=("agent", "goal", "lava"),
        begin=begin,
        mission=mission,
    )
    for size in (5, 6, 7)
)
