"""Grids of equal rooms: walls, doors between them, and things put into one of them.

Rooms share their walls, so room (i, j) begins at column ``i * (size - 1)`` and row
``j * (size - 1)``. Sides are numbered like directions: 0 right, 1 down, 2 left, 3 up.

What a generator has to remember of its rooms fits into three integers: ``offsets``, the
place of the possible door in each wall (three bits for the right and three for the
lower wall of each room), ``doors``, which sides are passable (four bits a room), and
``locked``, which rooms are behind a lock (one bit a room). This holds nine rooms of up
to nine cells.

MiniGrid gives up on a level after 1,000 vain tries for a cell and 5,000 for a door. In
the levels here the chance of it is below 1e-40, so the tries are not counted.

Reference: Farama MiniGrid, ``minigrid/core/roomgrid.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import (
    BOX,
    CONTENTS,
    DOOR_CLOSED,
    EMPTY,
    KEY,
    WALL,
)
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.features import cell_ahead
from guerdon.envs.grid.levels.base import (
    colour,
    integer,
    place_agent,
    wall_rect,
)
from guerdon.envs.grid.state import DIRECTION, HEIGHT, POSITION, ROOM_SIZE, WIDTH

RIGHT, DOWN, LEFT, UP = range(4)


@compiled
def room_columns(params: Any) -> Any:
    """How many rooms stand side by side."""
    return int(params[WIDTH] - 1) // int(params[ROOM_SIZE] - 1)


@compiled
def room_rows(params: Any) -> Any:
    """How many rooms stand one above the other."""
    return int(params[HEIGHT] - 1) // int(params[ROOM_SIZE] - 1)


@compiled
def draw_rooms(cells: Any, state: Any, seed: Any, params: Any) -> Any:
    """Walls around every room, a place for every door, the agent in the middle.

    Args:
        cells: of one lane, blank.
        state: the numbers of that lane.
        seed: of that lane.
        params: of the level.

    Returns:
        ``offsets``.
    """
    width, size = int(params[WIDTH]), int(params[ROOM_SIZE])
    step = size - 1
    columns, rows = room_columns(params), room_rows(params)
    offsets = 0
    for j in range(rows):
        for i in range(columns):
            wall_rect(cells, width, i * step, j * step, size, size)
            shift = 6 * (j * columns + i)
            if i < columns - 1:
                offsets |= integer(state, seed, 1, step) << shift
            if j < rows - 1:
                offsets |= integer(state, seed, 1, step) << (shift + 3)
    x = columns // 2 * step + size // 2
    y = rows // 2 * step + size // 2
    state[POSITION] = y * width + x
    state[DIRECTION] = 0
    return offsets


@compiled
def has_side(params: Any, i: Any, j: Any, side: Any) -> Any:
    """Whether another room lies on that side of room (i, j)."""
    if side == RIGHT:
        return i < room_columns(params) - 1
    if side == DOWN:
        return j < room_rows(params) - 1
    if side == LEFT:
        return i > 0
    return j > 0


@compiled
def door_place(params: Any, offsets: Any, i: Any, j: Any, side: Any) -> Any:
    """The cell where a door in that side of room (i, j) stands.

    Args:
        params: of the level.
        offsets: of ``draw_rooms``.
        i: column of the room.
        j: row of the room.
        side: one that another room lies on.
    """
    if side == LEFT:
        i -= 1
    if side == UP:
        j -= 1
    step = int(params[ROOM_SIZE]) - 1
    shift = 6 * (j * room_columns(params) + i)
    if side % 2 == 0:  # right or left
        x, y = (i + 1) * step, j * step + ((offsets >> shift) & 7)
    else:
        x, y = i * step + ((offsets >> (shift + 3)) & 7), (j + 1) * step
    return y * int(params[WIDTH]) + x


@compiled
def both_sides(params: Any, i: Any, j: Any, side: Any) -> Any:
    """The two bits in ``doors`` of one passage: of room (i, j) and of its neighbour."""
    columns = room_columns(params)
    there = neighbour(params, i, j, side)
    back = (side + 2) % 4
    return (1 << (4 * (j * columns + i) + side)) | (1 << (4 * there + back))


@compiled
def neighbour(params: Any, i: Any, j: Any, side: Any) -> Any:
    """Number, row by row, of the room on that side of room (i, j)."""
    columns = room_columns(params)
    here = j * columns + i
    if side == RIGHT:
        return here + 1
    if side == DOWN:
        return here + columns
    if side == LEFT:
        return here - 1
    return here - columns


@compiled
def take_wall_above(cells: Any, params: Any, i: Any, j: Any) -> None:
    """Remove the wall between room (i, j) and the one above it."""
    step, width = int(params[ROOM_SIZE]) - 1, int(params[WIDTH])
    for x in range(i * step + 1, (i + 1) * step):
        cells[j * step * width + x] = EMPTY


@compiled
def put_into_room(
    cells: Any, state: Any, seed: Any, params: Any, i: Any, j: Any, code: Any
) -> Any:
    """Put a thing into a random empty cell of room (i, j), not next to the agent.

    Args:
        cells: of one lane.
        state: the numbers of that lane.
        seed: of that lane.
        params: of the level.
        i: column of the room.
        j: row of the room.
        code: of the thing.

    Returns:
        The cell.
    """
    width, size = int(params[WIDTH]), int(params[ROOM_SIZE])
    left, top = i * (size - 1), j * (size - 1)
    agent_x, agent_y = int(state[POSITION]) % width, int(state[POSITION]) // width
    while True:
        x = integer(state, seed, left, left + size)
        y = integer(state, seed, top, top + size)
        near = abs(agent_x - x) + abs(agent_y - y) < 2
        if cells[y * width + x] == EMPTY and not near:
            cells[y * width + x] = code
            return y * width + x


@compiled
def enter_room(cells: Any, state: Any, seed: Any, params: Any, i: Any, j: Any) -> None:
    """Put the agent into room (i, j), facing nothing but an empty cell or a wall.

    Args:
        cells: of one lane.
        state: the numbers of that lane.
        seed: of that lane.
        params: of the level.
        i: column of the room.
        j: row of the room.
    """
    size = int(params[ROOM_SIZE])
    left, top = i * (size - 1), j * (size - 1)
    while True:
        place_agent(cells, state, seed, params, left, top, size, size)
        code = cells[cell_ahead(state[POSITION], state[DIRECTION], params)]
        if code == EMPTY or code >= WALL:
            return


@compiled
def connect_rooms(
    cells: Any,
    state: Any,
    seed: Any,
    params: Any,
    offsets: Any,
    doors: Any,
    locked: Any,
) -> None:
    """Add closed doors at random until every room can be reached.

    Args:
        cells: of one lane.
        state: the numbers of that lane; the agent stands in some room.
        seed: of that lane.
        params: of the level.
        offsets: of ``draw_rooms``.
        doors: four bits a room, which sides are passable already.
        locked: one bit a room, which get no further door.
    """
    columns, rows = room_columns(params), room_rows(params)
    step = int(params[ROOM_SIZE]) - 1
    width, position = int(params[WIDTH]), int(state[POSITION])
    x, y = position % width, position // width
    start = y // step * columns + x // step
    while not _all_reached(params, doors, start):
        i = integer(state, seed, 0, columns)
        j = integer(state, seed, 0, rows)
        side = integer(state, seed, 0, 4)
        here = j * columns + i
        if not has_side(params, i, j, side) or (doors >> (4 * here + side)) & 1:
            continue
        if (locked >> here) & 1 or (locked >> neighbour(params, i, j, side)) & 1:
            continue
        place = door_place(params, offsets, i, j, side)
        cells[place] = DOOR_CLOSED + colour(state, seed)
        doors |= both_sides(params, i, j, side)


@compiled
def _all_reached(params: Any, doors: Any, start: Any) -> Any:
    """Whether passages lead from room ``start`` to every room."""
    columns, rows = room_columns(params), room_rows(params)
    everything = (1 << (columns * rows)) - 1
    reached, before = 1 << start, 0
    while reached != before:
        before = reached
        for room in range(columns * rows):
            if (reached >> room) & 1:
                for side in range(4):
                    if (doors >> (4 * room + side)) & 1:
                        there = neighbour(params, room % columns, room // columns, side)
                        reached |= 1 << there
    return reached == everything


@compiled
def hidden(code: Any, box_colour: Any) -> Any:
    """The code of a box of ``box_colour`` with the key of ``code`` in it."""
    return BOX + CONTENTS * box_colour + code - KEY + 1
