"""DistShift: two strips of lava; the second one lies elsewhere when it is tested.

Nothing in these levels is random.

Reference: Farama MiniGrid, ``minigrid/envs/distshift.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import GREEN_GOAL, LAVA
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import Level, blank, survey, wall_rect
from guerdon.envs.grid.state import ARGUMENTS, HEIGHT, POSITION, WIDTH


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane; the first argument is the row of the second strip.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, height = params[WIDTH], params[HEIGHT]
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    cells[2 * width - 2] = GREEN_GOAL
    for x in range(3, width - 3):
        cells[width + x] = LAVA
        cells[params[ARGUMENTS] * width + x] = LAVA
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
        name=f"DistShift{number}",
        base=f"MiniGrid-DistShift{number}-v0",
        width=9,
        height=7,
        horizon=252,
        blocks=("agent", "goal", "hazard"),
        begin=begin,
        mission=mission,
        through=True,
        arguments=(row,),
    )
    for number, row in ((1, 2), (2, 5))
)
