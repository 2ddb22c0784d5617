"""KeyCorridor: a ball behind a locked door, its key in a room across the corridor.

Reference: Farama MiniGrid, ``minigrid/envs/keycorridor.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import BALL, COLOURS, DOOR_LOCKED, KEY
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    PICK_UP,
    Level,
    blank,
    colour,
    integer,
    survey,
)
from guerdon.envs.grid.levels.roomgrid import (
    LEFT,
    UP,
    both_sides,
    connect_rooms,
    door_place,
    draw_rooms,
    enter_room,
    put_into_room,
    room_columns,
    room_rows,
    take_wall_above,
)
from guerdon.envs.grid.state import MISSION, TARGET_CELL


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    blank(cells, state)
    offsets = draw_rooms(cells, state, seed, params)
    rows = room_rows(params)
    doors = 0
    for j in range(1, rows):
        take_wall_above(cells, params, 1, j)
        doors |= both_sides(params, 1, j, UP)
    row = integer(state, seed, 0, rows)
    paint = colour(state, seed)
    cells[door_place(params, offsets, 2, row, LEFT)] = DOOR_LOCKED + paint
    doors |= both_sides(params, 2, row, LEFT)
    locked = 1 << (row * room_columns(params) + 2)
    state[MISSION] = colour(state, seed)
    ball = BALL + state[MISSION]
    state[TARGET_CELL] = put_into_room(cells, state, seed, params, 2, row, ball)
    row = integer(state, seed, 0, rows)
    put_into_room(cells, state, seed, params, 0, row, KEY + paint)
    enter_room(cells, state, seed, params, 1, rows // 2)
    connect_rooms(cells, state, seed, params, offsets, doors, locked)
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
    """MiniGrid's text for a ball of colour ``a``."""
    return f"pick up the {COLOURS[a]} ball"


LEVELS = tuple(
    Level(
        name=f"KeyCorridorS{size}R{rows}",
        base=f"MiniGrid-KeyCorridorS{size}R{rows}-v0",
        width=3 * (size - 1) + 1,
        height=rows * (size - 1) + 1,
        horizon=30 * size**2,
        blocks=("agent", "key", "door", "doors", "ball"),
        begin=begin,
        mission=mission,
        mission_sizes=(6,),
        rule=PICK_UP,
        room_size=size,
        doors=doors,
    )
    # The locked room has one door, and the last door that is added is the only one
    # into what it connects, so no level has a door in all the places there are.
    for size, rows, doors in (
        (3, 1, 2),
        (3, 2, 5),
        (3, 3, 8),
        (4, 3, 8),
        (5, 3, 8),
        (6, 3, 8),
    )
)
