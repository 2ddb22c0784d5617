"""LockedRoom: six rooms along a corridor; the goal is in the one that is locked.

Reference: Farama MiniGrid, ``minigrid/envs/lockedroom.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import (
    COLOURS,
    DOOR_CLOSED,
    DOOR_LOCKED,
    DRAWN_COLOURS,
    GREEN_GOAL,
    KEY,
)
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    Level,
    blank,
    integer,
    place_agent,
    survey,
    wall_column,
    wall_rect,
    wall_row,
)
from guerdon.envs.grid.levels.chance import draw_left
from guerdon.envs.grid.state import HEIGHT, MISSION, WIDTH


@compiled
def _random_cell(state: Any, seed: Any, params: Any, room: Any) -> Any:
    """A random cell of a room; even rooms lie left of the corridor, odd ones right."""
    width, down = params[WIDTH], params[HEIGHT] // 3
    half = width // 2
    left = half + 2 if room % 2 == 1 else 0
    top = room // 2 * down
    x = integer(state, seed, left + 1, left + half - 2)
    return integer(state, seed, top + 1, top + down) * width + x


@compiled
def _walls(cells: Any, width: Any, height: Any) -> None:
    half = width // 2
    wall_rect(cells, width, 0, 0, width, height)
    wall_column(cells, width, half - 2, 0, height)
    wall_column(cells, width, half + 2, 0, height)
    for row in range(3):
        y = row * (height // 3)
        wall_row(cells, width, 0, y, half - 2)
        wall_row(cells, width, half + 2, y, width - half - 2)


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
    half = width // 2
    blank(cells, state)
    _walls(cells, width, height)
    locked = integer(state, seed, 0, 6)
    cells[_random_cell(state, seed, params, locked)] = GREEN_GOAL
    left, colours = 63, 0
    for room in range(6):
        rank = draw_left(state, seed, left)
        left &= ~(1 << rank)
        paint = DRAWN_COLOURS[rank]
        colours |= paint << (3 * room)
        x = half + 2 if room % 2 == 1 else half - 2
        kind = DOOR_LOCKED if room == locked else DOOR_CLOSED
        cells[(room // 2 * (height // 3) + 3) * width + x] = kind + paint
    key_room = locked
    while key_room == locked:
        key_room = integer(state, seed, 0, 6)
    state[MISSION] = (colours >> (3 * locked)) & 7
    state[MISSION + 1] = (colours >> (3 * key_room)) & 7
    cells[_random_cell(state, seed, params, key_room)] = KEY + state[MISSION]
    place_agent(cells, state, seed, params, half - 2, 0, 4, height)
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
    """MiniGrid's text for a locked room of colour ``a`` and a key in room ``b``."""
    lock, room = COLOURS[a], COLOURS[b]
    return (
        f"get the {lock} key from the {room} room, unlock the {lock} door and go to "
        "the goal"
    )


LEVELS = (
    Level(
        name="LockedRoom",
        base="MiniGrid-LockedRoom-v0",
        width=19,
        height=19,
        horizon=190,
        blocks=("agent", "goal", "key", "lock", "doors"),
        begin=begin,
        mission=mission,
        mission_sizes=(6, 6),
        doors=6,
    ),
)
