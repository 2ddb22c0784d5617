"""GoToDoor: a room with a door in each wall; stand before the one that is named.

Reference: Farama MiniGrid, ``minigrid/envs/gotodoor.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import COLOURS, DOOR_CLOSED
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    GO_TO,
    Level,
    blank,
    colour,
    integer,
    place_agent,
    survey,
    wall_rect,
)
from guerdon.envs.grid.state import AIM_CELL, HEIGHT, MISSION, WIDTH


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    columns = params[WIDTH]
    blank(cells, state)
    width = integer(state, seed, 5, columns + 1)
    height = integer(state, seed, 5, params[HEIGHT] + 1)
    wall_rect(cells, columns, 0, 0, width, height)
    above = integer(state, seed, 2, width - 2)
    below = (height - 1) * columns + integer(state, seed, 2, width - 2)
    left = integer(state, seed, 2, height - 2) * columns
    right = integer(state, seed, 2, height - 2) * columns + width - 1
    places = (above, below, left, right)
    used = 0
    for index in range(4):
        paint = colour(state, seed)
        while (used >> paint) & 1:
            paint = colour(state, seed)
        used |= 1 << paint
        cells[places[index]] = DOOR_CLOSED + paint
    place_agent(cells, state, seed, params, 0, 0, width, height)
    aim = places[integer(state, seed, 0, 4)]
    state[AIM_CELL] = aim
    state[MISSION] = cells[aim] - DOOR_CLOSED
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
    """MiniGrid's text for a door of colour ``a``."""
    return f"go to the {COLOURS[a]} door"


LEVELS = tuple(
    Level(
        name=f"GoToDoor-{size}x{size}",
        base=f"MiniGrid-GoToDoor-{size}x{size}-v0",
        width=size,
        height=size,
        horizon=4 * size**2,
        blocks=("agent", "aim"),
        begin=begin,
        mission=mission,
        mission_sizes=(6,),
        rule=GO_TO,
        through=True,
        doors=4,
    )
    for size in (5, 6, 8)
)
