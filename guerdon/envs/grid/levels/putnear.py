"""PutNear: carry one thing next to another.

Reference: Farama MiniGrid, ``minigrid/envs/putnear.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import COLOURS
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    PUT_NEAR,
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
from guerdon.envs.grid.state import (
    AIM_CELL,
    HEIGHT,
    LIST,
    LISTED,
    MISSION,
    TARGET_CELL,
    WANTED,
    WIDTH,
)


@compiled
def _touches_one(state: Any, cell: Any, count: Any, width: Any) -> Any:
    """Whether a cell is one of the first ``count`` of the list, or touches one."""
    for index in range(count):
        other = state[LIST + index]
        x = abs(cell % width - other % width)
        y = abs(cell // width - other // width)
        if x <= 1 and y <= 1:
            return True
    return False


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane; as many things as the list has rows.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, height, count = params[WIDTH], params[HEIGHT], params[LISTED]
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    for index in range(count):
        thing = new_thing(cells, state, seed, index)
        cell = free_cell(cells, state, seed, params, 0, 0, width, height)
        while _touches_one(state, cell, index, width):
            cell = free_cell(cells, state, seed, params, 0, 0, width, height)
        cells[cell] = thing
        state[LIST + index] = cell
    place_agent(cells, state, seed, params, 0, 0, width, height)
    moved = integer(state, seed, 0, count)
    aim = moved
    while aim == moved:
        aim = integer(state, seed, 0, count)
    wanted, target = cells[state[LIST + moved]], cells[state[LIST + aim]]
    state[WANTED] = wanted
    state[AIM_CELL] = state[LIST + aim]
    state[TARGET_CELL] = state[LIST + moved]
    state[MISSION], state[MISSION + 1] = colour_of(wanted), kind_of(wanted)
    state[MISSION + 2], state[MISSION + 3] = colour_of(target), kind_of(target)
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
    """MiniGrid's text for a thing of colour ``a`` and kind ``b`` to ``c`` and ``d``."""
    return f"put the {COLOURS[a]} {THINGS[b]} near the {COLOURS[c]} {THINGS[d]}"


LEVELS = tuple(
    Level(
        name=f"PutNear-{size}x{size}-N{things}",
        base=f"MiniGrid-PutNear-{size}x{size}-N{things}-v0",
        width=size,
        height=size,
        horizon=5 * size,
        blocks=("agent", "object", "aim"),
        begin=begin,
        mission=mission,
        mission_sizes=(6, 3, 6, 3),
        rule=PUT_NEAR,
        through=True,
        listed=things,
    )
    for size, things in ((6, 2), (8, 3))
)
