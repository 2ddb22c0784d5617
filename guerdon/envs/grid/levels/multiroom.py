"""MultiRoom: a chain of rooms with closed doors between them; the goal is in the last.

Rooms are put one after the other. The next one starts at a door in a wall of the last;
after eight vain attempts to place it the whole chain is begun anew. (MiniGrid writes
this as a recursion, which never goes back, so that a loop does the same.)

Reference: Farama MiniGrid, ``minigrid/envs/multiroom.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import DOOR_CLOSED, DRAWN_COLOURS, GREEN_GOAL
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    Level,
    blank,
    free_cell,
    integer,
    place_agent,
    survey,
    wall_rect,
)
from guerdon.envs.grid.levels.chance import draw_left
from guerdon.envs.grid.state import (
    ARGUMENTS,
    COUNT,
    HEIGHT,
    LIST,
    LISTED,
    ROOM_COUNT,
    WIDTH,
)

RIGHT, DOWN, LEFT, UP = range(4)
_SMALLEST = 4
_ATTEMPTS = 8


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane.

    The first argument is how many rooms there are, the second one how long a side of
    them may be.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width = params[WIDTH]
    blank(cells, state)
    count = integer(state, seed, params[ARGUMENTS], params[ARGUMENTS] + 1)
    while not _place_chain(state, seed, params, count):
        pass
    first = LIST + params[LISTED]
    last = first + 4 * (count - 1)
    before = -1
    for room in range(count):
        row = first + 4 * room
        x, y = state[row], state[row + 1]
        wall_rect(cells, width, x, y, state[row + 2], state[row + 3])
        if room > 0:
            left = 63 if before < 0 else 63 & ~(1 << before)
            before = draw_left(state, seed, left)
            cells[state[LIST + room - 1]] = DOOR_CLOSED + DRAWN_COLOURS[before]
    place_agent(
        cells, state, seed, params,
        state[first], state[first + 1], state[first + 2], state[first + 3],
    )  # fmt: skip
    goal = free_cell(
        cells, state, seed, params,
        state[last], state[last + 1], state[last + 2], state[last + 3],
    )  # fmt: skip
    cells[goal] = GREEN_GOAL
    state[ROOM_COUNT] = count
    state[COUNT] = count - 1
    survey(cells, state, params)


@compiled
def _place_chain(state: Any, seed: Any, params: Any, count: Any) -> Any:
    """Put ``count`` rooms into the marks; whether all of them found a place."""
    x = integer(state, seed, 0, params[WIDTH] - 2)
    y = integer(state, seed, 0, params[WIDTH] - 2)
    if not _place_room(state, seed, params, 0, LEFT, x, y):
        return False
    entry = LEFT
    for number in range(1, count):
        row = LIST + params[LISTED] + 4 * (number - 1)
        placed = False
        for _ in range(_ATTEMPTS):
            side = draw_left(state, seed, 15 & ~(1 << entry))
            x, y = _exit(state, seed, row, side)
            back = (side + 2) % 4
            if _place_room(state, seed, params, number, back, x, y):
                state[LIST + number - 1] = y * params[WIDTH] + x
                entry = back
                placed = True
                break
        if not placed:
            return False
    return True


@compiled
def _exit(state: Any, seed: Any, row: Any, side: Any) -> Any:
    """Column and row of a random door in one side of the room of row ``row``."""
    left, top = state[row], state[row + 1]
    width, height = state[row + 2], state[row + 3]
    if side == RIGHT:
        return left + width - 1, top + integer(state, seed, 1, height - 1)
    if side == DOWN:
        return left + integer(state, seed, 1, width - 1), top + height - 1
    if side == LEFT:
        return left + 0, top + integer(state, seed, 1, height - 1)
    return left + integer(state, seed, 1, width - 1), top + 0


@compiled
def _place_room(
    state: Any, seed: Any, params: Any, number: Any, entry: Any, x: Any, y: Any
) -> Any:
    """Give room ``number`` a random size and place, if it fits.

    Args:
        state: the numbers of one lane; those of the room are written.
        seed: of that lane.
        params: of the level.
        number: of the room, from 0.
        entry: side of the room in which its entry is.
        x: column of the entry; of the first room, its left side.
        y: row of the entry; of the first room, its upper side.

    Returns:
        Whether it fits.
    """
    width = integer(state, seed, _SMALLEST, params[ARGUMENTS + 1] + 1)
    height = integer(state, seed, _SMALLEST, params[ARGUMENTS + 1] + 1)
    left, top = int(x), int(y)
    if number > 0:
        if entry % 2 == 0:  # right or left
            top = integer(state, seed, y - height + 2, y)
        else:
            left = integer(state, seed, x - width + 2, x)
        if entry == RIGHT:
            left = x - width + 1
        if entry == DOWN:
            top = y - height + 1
    if left < 0 or top < 0:
        return False
    # MiniGrid keeps the last row free, but not the last column.
    if left + width > params[WIDTH] or top + height >= params[HEIGHT]:
        return False
    if not _stands_apart(state, params, number - 1, left, top, width, height):
        return False
    row = LIST + params[LISTED] + 4 * number
    state[row], state[row + 1] = left, top
    state[row + 2], state[row + 3] = width, height
    return True


@compiled
def _stands_apart(
    state: Any, params: Any, count: Any, left: Any, top: Any, width: Any, height: Any
) -> Any:
    """Whether a rectangle keeps clear of the first ``count`` rooms.

    MiniGrid asks for a free line on one side, but not on the other.
    """
    for room in range(count):
        row = LIST + params[LISTED] + 4 * room
        apart = (
            left + width < state[row]
            or state[row] + state[row + 2] <= left
            or top + height < state[row + 1]
            or state[row + 1] + state[row + 3] <= top
        )
        if not apart:
            return False
    return True


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
    return "traverse the rooms to get to the goal"


def _level(name: str, base: str, rooms: int, largest: int, **made_with: int) -> Level:
    return Level(
        name=name,
        base=base,
        keywords=tuple(made_with.items()),
        width=25,
        height=25,
        horizon=20 * rooms,
        blocks=("agent", "goal", "rooms"),
        begin=begin,
        mission=mission,
        doors=rooms - 1,
        listed=rooms - 1,
        rooms=rooms,
        arguments=(rooms, largest),
    )


LEVELS = (
    _level("MultiRoom-N2-S4", "MiniGrid-MultiRoom-N2-S4-v0", 2, 4),
    # MiniGrid's v0 of this level is misconfigured: it has six rooms.
    _level("MultiRoom-N4-S5", "MiniGrid-MultiRoom-N4-S5-v1", 4, 5),
    _level("MultiRoom-N6", "MiniGrid-MultiRoom-N6-v0", 6, 10),
    # A level of the literature on exploration that MiniGrid does not register.
    _level(
        "MultiRoom-N7-S8", "MiniGrid-MultiRoom-N6-v0", 7, 8,
        minNumRooms=7, maxNumRooms=7, maxRoomSize=8,
    ),
)  # fmt: skip
