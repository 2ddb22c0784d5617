"""Empty: a room with nothing but a goal.

Reference: Farama MiniGrid, ``minigrid/envs/empty.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import GREEN_GOAL
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import Level, blank, place_agent, survey, wall_rect
from guerdon.envs.grid.state import ARGUMENTS, HEIGHT, POSITION, WIDTH


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
        name=f"Empty{'-Random' * start}-{size}x{size}",
        base=f"MiniGrid-Empty{'-Random' * start}-{size}x{size}-v0",
        width=size,
        height=size,
        horizon=4 * size**2,
        blocks=("agent", "goal"),
        begin=begin,
        mission=mission,
        through=True,
        arguments=(start,),
    )
    for start, size in ((0, 5), (1, 5), (0, 6), (1, 6), (0, 8), (0, 16))
)
