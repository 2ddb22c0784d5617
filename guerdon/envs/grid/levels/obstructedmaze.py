"""ObstructedMaze: a ball behind locked doors, with balls before them, keys in boxes.

These are MiniGrid's v1 where it has one: in v0 a ball may crush a key.

Reference: Farama MiniGrid, ``minigrid/envs/obstructedmaze.py`` and
``obstructedmaze_v1.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import (
    BALL,
    BLUE,
    DOOR_CLOSED,
    DOOR_LOCKED,
    DRAWN_COLOURS,
    GREEN,
    GREY,
    KEY,
)
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import PICK_UP, Level, blank, integer, survey
from guerdon.envs.grid.levels.chance import draw_left
from guerdon.envs.grid.levels.roomgrid import (
    RIGHT,
    door_place,
    draw_rooms,
    enter_room,
    hidden,
    put_into_room,
)
from guerdon.envs.grid.state import ARGUMENTS, TARGET_CELL, WIDTH

_QUARTERS, _IN_BOX, _BLOCKED, _START = range(4)
"""Arguments: quarters of the maze (0 for two rooms), whether keys lie in boxes, whether
balls lie before locked doors, column of the room in which the agent starts."""

_SIDE_I, _SIDE_J = (2, 1, 0, 1), (1, 2, 1, 0)
"""The rooms right of, below, left of and above the one in the middle."""
_CORNER_I, _CORNER_J = (2, 2, 0, 0), (0, 2, 2, 0)


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
    colours = _door_colours(state, seed)
    quarters = params[ARGUMENTS + _QUARTERS]
    ball, start = BALL + BLUE, params[ARGUMENTS + _START]
    if quarters == 0:
        _lock(cells, params, offsets, 0, 0, RIGHT, colours & 7)
        _put_key(cells, state, seed, params, 0, 0, colours & 7)
        state[TARGET_CELL] = put_into_room(cells, state, seed, params, 1, 0, ball)
        enter_room(cells, state, seed, params, 0, 0)
    else:
        for side in range(quarters):
            _draw_quarter(cells, state, seed, params, offsets, colours, side)
        corner = integer(state, seed, 0, quarters)
        i, j = _CORNER_I[corner], _CORNER_J[corner]
        state[TARGET_CELL] = put_into_room(cells, state, seed, params, i, j, ball)
        enter_room(cells, state, seed, params, start, 1)
    survey(cells, state, params)


@compiled
def _door_colours(state: Any, seed: Any) -> Any:
    """All six colours in a random order, three bits each, the first one lowest."""
    left, colours = 63, 0
    for index in range(6):
        rank = draw_left(state, seed, left)
        left &= ~(1 << rank)
        colours |= DRAWN_COLOURS[rank] << (3 * index)
    return colours


@compiled
def _draw_quarter(
    cells: Any,
    state: Any,
    seed: Any,
    params: Any,
    offsets: Any,
    colours: Any,
    side: Any,
) -> None:
    """The door from the middle to one side, two locked doors there, and their keys."""
    i, j = _SIDE_I[side], _SIDE_J[side]
    door = door_place(params, offsets, 1, 1, side)
    cells[door] = DOOR_CLOSED + ((colours >> (3 * side)) & 7)
    for turn in (-1, 1):
        paint = (colours >> (3 * ((side + turn + 6) % 6))) & 7
        _lock(cells, params, offsets, i, j, (side + turn + 4) % 4, paint)
    for turn in (-1, 1):
        paint = (colours >> (3 * ((side + turn + 6) % 6))) & 7
        _put_key(cells, state, seed, params, i, j, paint)


@compiled
def _lock(
    cells: Any, params: Any, offsets: Any, i: Any, j: Any, side: Any, paint: Any
) -> None:
    """A locked door in one side of room (i, j), with a green ball before it."""
    door = door_place(params, offsets, i, j, side)
    cells[door] = DOOR_LOCKED + paint
    if params[ARGUMENTS + _BLOCKED]:
        stride = 1 if side % 2 == 0 else params[WIDTH]
        before = door - stride if side < 2 else door + stride
        cells[before] = BALL + GREEN


@compiled
def _put_key(
    cells: Any, state: Any, seed: Any, params: Any, i: Any, j: Any, paint: Any
) -> None:
    """A key in room (i, j), in a grey box if the level hides them."""
    key = KEY + paint
    if params[ARGUMENTS + _IN_BOX]:
        key = hidden(key, GREY)
    put_into_room(cells, state, seed, params, i, j, key)


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
    return "pick up the blue ball"


LEVELS = tuple(
    Level(
        name=f"ObstructedMaze-{name}",
        base=f"MiniGrid-ObstructedMaze-{name}-v{version}",
        width=16 if quarters else 11,
        height=16 if quarters else 6,
        horizon=144 * visited,
        blocks=("agent", "doors", "ball"),
        begin=begin,
        mission=mission,
        rule=PICK_UP,
        room_size=6,
        doors=3 * quarters or 1,
        arguments=(quarters, in_box, blocked, start),
    )
    for name, version, quarters, visited, in_box, blocked, start in (
        ("1Dl", 0, 0, 2, 0, 0, 0),
        ("1Dlh", 0, 0, 2, 1, 0, 0),
        ("1Dlhb", 0, 0, 2, 1, 1, 0),
        ("2Dl", 0, 1, 4, 0, 0, 2),
        ("2Dlh", 0, 1, 4, 1, 0, 2),
        ("2Dlhb", 1, 1, 4, 1, 1, 2),
        ("1Q", 1, 1, 5, 1, 1, 1),
        ("2Q", 1, 2, 11, 1, 1, 2),
        ("Full", 1, 4, 25, 1, 1, 1),
    )
)
