"""GoToObject: stand next to the thing that is named.

Reference: Farama MiniGrid, ``minigrid/envs/gotoobject.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import COLOURS
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    GO_TO,
    Level,
    blank,
    free_cell,
    integer,
    place_agent,
    survey,
    wall_rect,
)
from guerdon.envs.grid.levels.things import (
    THINGS,
    colour_of,
    forget_list,
    kind_of,
    new_thing,
)
from guerdon.envs.grid.state import AIM_CELL, HEIGHT, LIST, LISTED, MISSION, WIDTH


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane; as many things as the list has rows.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, height = params[WIDTH], params[HEIGHT]
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    for index in range(params[LISTED]):
        thing = new_thing(cells, state, seed, index)
        cell = free_cell(cells, state, seed, params, 0, 0, width, height)
        cells[cell] = thing
        state[LIST + index] = cell
    place_agent(cells, state, seed, params, 0, 0, width, height)
    aim = state[LIST + integer(state, seed, 0, params[LISTED])]
    state[AIM_CELL] = aim
    state[MISSION] = colour_of(cells[aim])
    state[MISSION + 1] = kind_of(cells[aim])
    forget_list(state, params)
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
    """MiniGrid's text for a thing of colour ``a`` and kind ``b``."""
    return f"go to the {COLOURS[a]} {THINGS[b]}"


LEVELS = tuple(
    Level(
        name=f"GoToObject-{size}x{size}-N2",
        base=f"MiniGrid-GoToObject-{size}x{size}-N2-v0",
        width=size,
        height=size,
        horizon=5 * size**2,
        blocks=("agent", "aim"),
        begin=begin,
        mission=mission,
        mission_sizes=(6, 3),
        rule=GO_TO,
        through=True,
        listed=2,
    )
    for size in (6, 8)
)
