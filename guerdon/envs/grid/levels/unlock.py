"""Unlock, UnlockPickup and BlockedUnlockPickup: a locked door between two rooms.

Reference: Farama MiniGrid, ``minigrid/envs/unlock.py``, ``unlockpickup.py`` and
``blockedunlockpickup.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import BALL, BOX, COLOURS, CONTENTS, DOOR_LOCKED, KEY
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    PICK_UP,
    UNLOCK,
    Level,
    blank,
    colour,
    survey,
)
from guerdon.envs.grid.levels.roomgrid import (
    RIGHT,
    door_place,
    draw_rooms,
    enter_room,
    put_into_room,
)
from guerdon.envs.grid.state import ARGUMENTS, MISSION, TARGET_CELL

_OPEN, _FETCH, _CLEAR = range(3)
"""What is to be done: open the door, fetch a box behind it, or clear the way first."""


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane; the first argument says what is to be done.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    blank(cells, state)
    task = params[ARGUMENTS]
    offsets = draw_rooms(cells, state, seed, params)
    if task != _OPEN:
        paint = colour(state, seed)
        box = BOX + CONTENTS * paint
        state[TARGET_CELL] = put_into_room(cells, state, seed, params, 1, 0, box)
        state[MISSION] = paint
    door = door_place(params, offsets, 0, 0, RIGHT)
    paint = colour(state, seed)
    cells[door] = DOOR_LOCKED + paint
    if task == _CLEAR:
        cells[door - 1] = BALL + colour(state, seed)
    put_into_room(cells, state, seed, params, 0, 0, KEY + paint)
    enter_room(cells, state, seed, params, 0, 0)
    survey(cells, state, params)


@compiled
def begin(
    lanes: Any, cells: Any, numbers: Any, seeds: Any, params: Any, low: Any, high: Any
) -> None:
    """A new episode for every lane from ``low`` to ``high`` that ``lanes`` names."""
    for lane in range(low, high):
        if lanes[lane]:
            generate(cells[lane], numbers[:, lane], seeds[lane], params)


def open_door(a: int, b: int, c: int, d: int) -> str:
    """MiniGrid's text for Unlock."""
    return "open the door"


def pick_up_box(a: int, b: int, c: int, d: int) -> str:
    """MiniGrid's text for a box of colour ``a``."""
    return f"pick up the {COLOURS[a]} box"


LEVELS = (
    Level(
        name="Unlock",
        base="MiniGrid-Unlock-v0",
        width=11,
        height=6,
        horizon=288,
        blocks=("agent", "key", "door"),
        begin=begin,
        mission=open_door,
        rule=UNLOCK,
        room_size=6,
        doors=1,
        arguments=(_OPEN,),
    ),
    *(
        Level(
            name=name,
            base=f"MiniGrid-{name}-v0",
            width=11,
            height=6,
            horizon=horizon,
            blocks=("agent", "key", "door", "box"),
            begin=begin,
            mission=pick_up_box,
            mission_sizes=(6,),
            rule=PICK_UP,
            room_size=6,
            doors=1,
            arguments=(task,),
        )
        for name, horizon, task in (
            ("UnlockPickup", 288, _FETCH),
            ("BlockedUnlockPickup", 576, _CLEAR),
        )
    ),
)
