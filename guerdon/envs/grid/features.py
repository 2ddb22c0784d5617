"""The features of a lane, from its marks: those of ``minigrid_features``, in one pass.

Every block writes the same numbers as the reader of its name there; the parity test
compares them float for float.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import BALL, BOX, DOOR_LOCKED, DOOR_OPEN, LAVA
from guerdon.envs.grid.compiled import compiled, inlined
from guerdon.envs.grid.state import (
    ACROSS,
    AIM_CELL,
    BLOCKS,
    CARRIED,
    CARRYING,
    COUNT,
    DIRECTION,
    DOOR_CELL,
    GAP_CELL,
    GOAL_CELL,
    GONE,
    HEIGHT,
    KEY_CELL,
    LIST,
    LISTED,
    OPENED,
    POSITION,
    RECIPROCAL,
    ROOM_COUNT,
    ROOM_SIZE,
    TARGET_CELL,
    TRAP_CELL,
    WANTED,
    WIDTH,
)

NAMES = (
    "agent", "goal", "key", "door", "ball", "box", "doors", "rooms", "lava",
    "hazard", "obstacles", "lock", "ends", "aim", "object", "wanted", "two doors",
)  # fmt: skip
"""Blocks in the order of their numbers."""

_AGENT, _GOAL, _KEY, _DOOR, _BALL, _BOX, _DOORS, _ROOMS, _LAVA = range(9)
_HAZARD, _OBSTACLES, _LOCK, _ENDS, _AIM, _OBJECT, _WANTED, _TWO = range(9, len(NAMES))


@inlined
def cell_ahead(position: Any, direction: Any, params: Any) -> Any:
    """The cell that an agent faces; above and below the grid it is the last one."""
    # Facing is as good as random to a processor: no branch may depend on it.
    turned = direction & 1
    ahead = position + (1 - (direction & 2)) * (1 + turned * (params[WIDTH] - 1))
    cells = params[WIDTH] * params[HEIGHT]
    return ahead if 0 <= ahead < cells else cells


@inlined
def row_of(cell: Any, params: Any) -> Any:
    """Row of a cell of the grid, from the top."""
    return (cell * params[RECIPROCAL]) >> 20


@inlined
def across_and_down(a: Any, b: Any, params: Any) -> Any:
    """How many columns and how many rows cell ``b`` is from cell ``a``, both signed."""
    rows = row_of(b, params) - row_of(a, params)
    return b - a - rows * params[WIDTH], rows


@inlined
def _distance(a: Any, b: Any, params: Any) -> Any:
    """Manhattan distance of two cells."""
    x, y = across_and_down(a, b, params)
    return abs(x) + abs(y)


@compiled
def write_features(cells: Any, numbers: Any, lane: Any, params: Any, out: Any) -> None:
    """Write the feature row of one lane.

    Args:
        cells: ``(N, H * W + 1)`` uint8.
        numbers: ``(K, N)`` int32.
        lane: which one.
        params: of the level; its blocks say what the row is made of.
        out: ``(N, W)`` float32.
    """
    position = numbers[POSITION, lane]
    direction = numbers[DIRECTION, lane]
    ahead = cell_ahead(position, direction, params)
    at = 0
    for index in range(params[BLOCKS]):
        block = params[BLOCKS + 1 + index]
        if block == _AGENT:
            at = _agent(position, direction, params, lane, out, at)
        elif block == _GOAL:
            at = _goal(numbers, position, params, lane, out, at)
        elif block == _KEY:
            mark = numbers[KEY_CELL, lane]
            at = _thing(mark, position, ahead, params, lane, out, at)
        elif block == _DOOR:
            at = _door(cells, numbers, position, ahead, params, lane, out, at)
        elif block in (_BALL, _BOX):
            mark = numbers[TARGET_CELL, lane]
            at = _thing(mark, position, ahead, params, lane, out, at)
            if block == _BOX:
                out[lane, at] = int(mark <= GONE)
                at += 1
        elif block == _DOORS:
            out[lane, at] = numbers[OPENED, lane]
            at += 1
        elif block == _ROOMS:
            at = _rooms(cells, numbers, position, ahead, params, lane, out, at)
        elif block == _LAVA:
            at = _hazard(cells, position, ahead, lane, out, at)
            at = _gap(numbers, position, params, lane, out, at)
        else:
            at = _rarer(cells, numbers, position, ahead, params, block, lane, out, at)


@compiled
def _rarer(
    cells: Any, numbers: Any, position: Any, ahead: Any, params: Any, block: Any,
    lane: Any, out: Any, at: Any,
) -> Any:  # fmt: skip
    """The blocks that few levels have, out of the way of the others."""
    if block == _HAZARD:
        return _hazard(cells, position, ahead, lane, out, at)
    if block == _OBSTACLES:
        code = cells[lane, ahead]
        out[lane, at] = int(code >= BALL) & int(code < BOX)
        return at + 1
    if block == _LOCK:
        return _lock(cells, numbers[DOOR_CELL, lane], position, ahead, params, lane,
                     out, at)  # fmt: skip
    if block == _ENDS:
        distance = _distance(position, numbers[AIM_CELL, lane], params)
        out[lane, at] = distance
        out[lane, at + 1] = int(distance == 0)
        out[lane, at + 2] = int(position == numbers[TRAP_CELL, lane])
        return at + 3
    if block == _AIM:
        aim = numbers[AIM_CELL, lane]
        out[lane, at] = _distance(position, aim, params)
        out[lane, at + 1] = int(ahead == aim)
        return at + 2
    if block == _OBJECT:
        mark = numbers[TARGET_CELL, lane]
        return _thing(mark, position, ahead, params, lane, out, at)
    if block == _WANTED:
        return _wanted(cells, numbers, position, ahead, params, lane, out, at)
    for mark in (TRAP_CELL, AIM_CELL):
        door = numbers[mark, lane]
        code = cells[lane, door]
        out[lane, at] = _distance(position, door, params)
        out[lane, at + 1] = int(ahead == door)
        out[lane, at + 2] = int(code >= DOOR_OPEN) & int(code < DOOR_OPEN + 6)
        at += 3
    return at


@inlined
def _agent(
    position: Any, direction: Any, params: Any, lane: Any, out: Any, at: Any
) -> Any:
    y = row_of(position, params)
    out[lane, at] = position - y * params[WIDTH]
    out[lane, at + 1] = y
    step = 1 - (direction & 2)
    turned = direction & 1
    out[lane, at + 2] = step * (1 - turned)
    out[lane, at + 3] = step * turned
    return at + 4


@inlined
def _goal(
    numbers: Any, position: Any, params: Any, lane: Any, out: Any, at: Any
) -> Any:
    distance = _distance(position, numbers[GOAL_CELL, lane], params)
    out[lane, at] = distance
    out[lane, at + 1] = int(distance == 0)
    return at + 2


@inlined
def _thing(
    mark: Any, position: Any, ahead: Any, params: Any, lane: Any, out: Any, at: Any
) -> Any:
    """Distance, ahead and carried of a thing that can be picked up or destroyed."""
    cell = GONE - mark if mark <= GONE else mark
    carried = int(mark == CARRIED)
    out[lane, at] = _distance(position, cell, params) * (1 - carried)
    out[lane, at + 1] = int(mark == ahead)
    out[lane, at + 2] = carried
    return at + 3


@inlined
def _door(
    cells: Any, numbers: Any, position: Any, ahead: Any, params: Any, lane: Any,
    out: Any, at: Any,
) -> Any:  # fmt: skip
    door = numbers[DOOR_CELL, lane]
    right, down = across_and_down(door, position, params)
    inside = int(right > 0)
    side = params[ROOM_SIZE] - 1
    if side > 0:
        y = row_of(door, params)
        top = y // side * side
        inside &= int(y + down > top) & int(y + down < top + side)
    at = _lock(cells, door, position, ahead, params, lane, out, at)
    out[lane, at] = inside
    return at + 1


@inlined
def _lock(
    cells: Any, door: Any, position: Any, ahead: Any, params: Any, lane: Any, out: Any,
    at: Any,
) -> Any:  # fmt: skip
    """Distance, ahead, unlocked and open of the locked door."""
    code = cells[lane, door]
    out[lane, at] = _distance(position, door, params)
    out[lane, at + 1] = int(ahead == door)
    locked = int(code >= DOOR_LOCKED) & int(code < DOOR_LOCKED + 6)
    out[lane, at + 2] = 1 - locked
    out[lane, at + 3] = int(code >= DOOR_OPEN) & int(code < DOOR_OPEN + 6)
    return at + 4


@inlined
def _rooms(
    cells: Any, numbers: Any, position: Any, ahead: Any, params: Any, lane: Any,
    out: Any, at: Any,
) -> Any:  # fmt: skip
    y = row_of(position, params)
    x = position - y * params[WIDTH]
    row = LIST + params[LISTED]
    number = 0
    for index in range(numbers[ROOM_COUNT, lane]):
        right = x - numbers[row, lane]
        down = y - numbers[row + 1, lane]
        if 0 <= right < numbers[row + 2, lane] and 0 <= down < numbers[row + 3, lane]:
            number = index
        row += 4
    out[lane, at] = number
    out[lane, at + 1] = numbers[OPENED, lane]
    out[lane, at + 2] = 0
    out[lane, at + 3] = 0
    out[lane, at + 4] = 1
    for index in range(numbers[COUNT, lane]):
        door = numbers[LIST + index, lane]
        if not DOOR_OPEN <= cells[lane, door] < DOOR_OPEN + 6:
            out[lane, at + 2] = _distance(position, door, params)
            out[lane, at + 3] = int(ahead == door)
            out[lane, at + 4] = 0
            break
    return at + 5


@inlined
def _hazard(cells: Any, position: Any, ahead: Any, lane: Any, out: Any, at: Any) -> Any:
    out[lane, at] = int(cells[lane, ahead] == LAVA)
    out[lane, at + 1] = int(cells[lane, position] == LAVA)
    return at + 2


@inlined
def _gap(numbers: Any, position: Any, params: Any, lane: Any, out: Any, at: Any) -> Any:
    right, down = across_and_down(numbers[GAP_CELL, lane], position, params)
    out[lane, at] = abs(right) + abs(down)
    out[lane, at + 1] = int((right if numbers[ACROSS, lane] == 0 else down) > 0)
    return at + 2


@inlined
def _wanted(
    cells: Any, numbers: Any, position: Any, ahead: Any, params: Any, lane: Any,
    out: Any, at: Any,
) -> Any:  # fmt: skip
    """The nearest thing that looks like the one to fetch; there may be two."""
    wanted = numbers[WANTED, lane]
    carried = int(numbers[CARRYING, lane] == wanted)
    nearest = params[WIDTH] + params[HEIGHT]
    for cell in range(params[WIDTH] * params[HEIGHT]):
        if cells[lane, cell] == wanted:
            distance = _distance(position, cell, params)
            nearest = distance if distance < nearest else nearest
    out[lane, at] = nearest * (1 - carried)
    out[lane, at + 1] = int(cells[lane, ahead] == wanted)
    out[lane, at + 2] = carried
    return at + 3
