"""What a reward may see of a MiniGrid level, read from the simulator's state.

A level's row is put together from blocks (agent, goal, key, door, ...), so that a
feature has the same name and meaning in every level that has it. Nothing here
imports ``minigrid``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

FACING = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Unit vectors of MiniGrid's four directions: right, down, left, up."""


class View(NamedTuple):
    """Where the agent stands and which cell is ahead of it."""

    x: int
    y: int
    ahead: tuple[int, int]
    direction: int


class Door(NamedTuple):
    """A door and its cell; MiniGrid's own ``cur_pos`` is not set in every level."""

    thing: Any
    x: int
    y: int


class Things:
    """What stands in a level; everything that cannot move is located once.

    A key, a ball or a box moves only by the agent's hand, and MiniGrid then keeps
    its ``cur_pos`` up to date, so no later step has to search the grid.
    """

    __slots__ = ("door", "doors", "gap", "goal", "key", "lava", "room", "target")

    def __init__(self, env: Any) -> None:
        self.goal: Any = None
        self.key: Any = None
        self.target: Any = getattr(env, "obj", None)
        moved = (getattr(env, "move_type", None), getattr(env, "moveColor", None))
        self.doors: list[Door] = []
        self.lava: set[tuple[int, int]] = set()
        width = env.grid.width
        for index, thing in enumerate(env.grid.grid):
            if thing is None or thing.type == "wall":
                continue
            y, x = divmod(index, width)
            if (thing.type, thing.color) == moved:
                self.target = thing
            if thing.type == "goal":
                self.goal = (x, y)
            elif thing.type == "key":
                self.key = thing
                if thing.cur_pos is None:
                    # LockedRoom puts its key down without telling it where.
                    thing.cur_pos = (x, y)
            elif thing.type == "lava":
                self.lava.add((x, y))
            elif thing.type == "door":
                self.doors.append(Door(thing, x, y))
        held = env.carrying
        if held is not None:
            # The first look at the level comes in the middle of an episode.
            if held.type == "key":
                self.key = held
            if (held.type, held.color) == moved:
                self.target = held
        locked = [door for door in self.doors if door.thing.is_locked]
        locked = locked or _unlocked(env, self.doors)
        self.door: Any = next(iter(locked or self.doors), None)
        self.room = _behind(env, self.door)
        self.gap: Any = _gap(self.lava, env.grid.width, env.grid.height)
        self._order_doors(env)

    def _order_doors(self, env: Any) -> None:
        """Put the doors of a chain of rooms in the order of the rooms."""
        rooms = getattr(env, "rooms", None)
        # The rooms of LockedRoom are no chain: they have doors, but no entries.
        if rooms and hasattr(rooms[0], "entryDoorPos"):
            order = [tuple(map(int, room.entryDoorPos)) for room in rooms[1:]]
            self.doors.sort(key=lambda door: order.index((door.x, door.y)))


def _unlocked(env: Any, doors: list[Door]) -> list[Door]:
    """The doors that were locked once: of rooms that remember it."""
    # LockedRoom lists its rooms and where their doors are; levels made of a grid of
    # rooms keep the doors themselves.
    rooms = [r for r in getattr(env, "rooms", []) if getattr(r, "locked", False)]
    places = [tuple(map(int, room.doorPos)) for room in rooms]
    grid = getattr(env, "room_grid", [])
    kept = [thing for row in grid for r in row if r.locked for thing in r.doors]
    return [
        door
        for door in doors
        if (door.x, door.y) in places or any(door.thing is thing for thing in kept)
    ]


def _behind(env: Any, door: Door | None) -> tuple[int, int, int]:
    """Column of the door and the rows (exclusive) of the room to its right."""
    if door is None:
        return (0, 0, 0)
    size = getattr(env, "room_size", None)
    if size is None:
        return (door.x, -1, int(env.grid.height))
    top = door.y // (size - 1) * (size - 1)
    return (door.x, top, top + size - 1)


def _gap(
    lava: set[tuple[int, int]], width: int, height: int
) -> tuple[int, int, int] | None:
    """Opening of a single river of lava, and the axis (0 or 1) it runs across."""
    if not lava:
        return None
    columns = {x for x, _ in lava}
    axis = 0 if len(columns) == 1 else 1
    if axis == 0:
        river = [(x, y) for x in columns for y in range(1, height - 1)]
    else:
        row = next(iter(lava))[1]
        river = [(x, row) for x in range(1, width - 1)]
    x, y = next(cell for cell in river if cell not in lava)
    return (x, y, axis)


def things_of(env: Any) -> Things:
    """Things of the present level; searched once for every grid.

    The result is kept on the grid itself, which every reset replaces, so it can
    never outlive the level that it describes.
    """
    try:
        things: Things = env.grid.guerdon_things
    except AttributeError:
        things = env.grid.guerdon_things = Things(env)
    return things


Read = Callable[[Any, Things, View], tuple[float, ...]]


def _read_agent(env: Any, things: Things, view: View) -> tuple[float, ...]:
    return (view.x, view.y, *FACING[view.direction])


def _read_goal(env: Any, things: Things, view: View) -> tuple[float, ...]:
    distance = abs(view.x - things.goal[0]) + abs(view.y - things.goal[1])
    return (distance, distance == 0)


def _read_key(env: Any, things: Things, view: View) -> tuple[float, ...]:
    key = things.key
    if env.carrying is key:
        return (0.0, 0.0, 1.0)
    x, y = int(key.cur_pos[0]), int(key.cur_pos[1])
    return (abs(view.x - x) + abs(view.y - y), view.ahead == (x, y), 0.0)


def _read_door(env: Any, things: Things, view: View) -> tuple[float, ...]:
    column, top, bottom = things.room
    inside = view.x > column and top < view.y < bottom
    return (*_read_lock(env, things, view), inside)


def _read_lock(env: Any, things: Things, view: View) -> tuple[float, ...]:
    thing, x, y = things.door
    return (
        abs(view.x - x) + abs(view.y - y),
        view.ahead == (x, y),
        not thing.is_locked,
        thing.is_open,
    )


def _read_target(env: Any, things: Things, view: View) -> tuple[float, ...]:
    target = things.target
    if env.carrying is target:
        return (0.0, 0.0, 1.0)
    x, y = int(target.cur_pos[0]), int(target.cur_pos[1])
    return (abs(view.x - x) + abs(view.y - y), view.ahead == (x, y), 0.0)


def _read_box(env: Any, things: Things, view: View) -> tuple[float, ...]:
    target = things.target
    distance, ahead, carried = _read_target(env, things, view)
    if carried:
        return (distance, ahead, carried, 0.0)
    x, y = int(target.cur_pos[0]), int(target.cur_pos[1])
    gone = env.grid.grid[y * env.grid.width + x] is not target
    return (distance, ahead and not gone, carried, gone)


def _read_doors(env: Any, things: Things, view: View) -> tuple[float, ...]:
    return (sum(door.thing.is_open for door in things.doors),)


def _read_rooms(env: Any, things: Things, view: View) -> tuple[float, ...]:
    number = 0
    for index, room in enumerate(env.rooms):
        left, top = room.top
        width, height = room.size
        if left <= view.x < left + width and top <= view.y < top + height:
            number = index
    opened = sum(door.thing.is_open for door in things.doors)
    for thing, x, y in things.doors:
        if not thing.is_open:
            distance = abs(view.x - x) + abs(view.y - y)
            return (number, opened, distance, view.ahead == (x, y), 0.0)
    return (number, opened, 0.0, 0.0, 1.0)


def _read_hazard(env: Any, things: Things, view: View) -> tuple[float, ...]:
    return (view.ahead in things.lava, (view.x, view.y) in things.lava)


def _read_lava(env: Any, things: Things, view: View) -> tuple[float, ...]:
    gap_x, gap_y, axis = things.gap
    return (
        *_read_hazard(env, things, view),
        abs(view.x - gap_x) + abs(view.y - gap_y),
        (view.x, view.y)[axis] > (gap_x, gap_y)[axis],
    )


def _read_obstacles(env: Any, things: Things, view: View) -> tuple[float, ...]:
    thing = env.grid.get(*view.ahead)
    return (thing is not None and thing.type == "ball",)


def _read_ends(env: Any, things: Things, view: View) -> tuple[float, ...]:
    """Of the two ends of a memory's corridor, where one is right."""
    x, y = (int(place) for place in env.success_pos)
    distance = abs(view.x - x) + abs(view.y - y)
    wrong = tuple(int(place) for place in env.failure_pos)
    return (distance, distance == 0, (view.x, view.y) == wrong)


def _read_aim(env: Any, things: Things, view: View) -> tuple[float, ...]:
    x, y = (int(place) for place in env.target_pos)
    return (abs(view.x - x) + abs(view.y - y), view.ahead == (x, y))


def _read_object(env: Any, things: Things, view: View) -> tuple[float, ...]:
    return _read_box(env, things, view)[:3]


def _read_wanted(env: Any, things: Things, view: View) -> tuple[float, ...]:
    """The nearest thing that looks like the one to fetch; there may be two."""
    look = (env.targetType, env.targetColor)
    held = env.carrying
    if held is not None and (held.type, held.color) == look:
        return (0.0, 0.0, 1.0)
    nearest, ahead = env.grid.width + env.grid.height, False
    for index, thing in enumerate(env.grid.grid):
        if thing is not None and (thing.type, thing.color) == look:
            y, x = divmod(index, env.grid.width)
            nearest = min(nearest, abs(view.x - x) + abs(view.y - y))
            ahead = ahead or view.ahead == (x, y)
    return (nearest, ahead, 0.0)


def _read_two_doors(env: Any, things: Things, view: View) -> tuple[float, ...]:
    row: list[float] = []
    for wanted in (env.red_door, env.blue_door):
        x, y = next((x, y) for thing, x, y in things.doors if thing is wanted)
        away = abs(view.x - x) + abs(view.y - y)
        row += (away, view.ahead == (x, y), wanted.is_open)
    return tuple(row)


READERS: Mapping[str, Read] = {
    "agent": _read_agent,
    "goal": _read_goal,
    "key": _read_key,
    "door": _read_door,
    "ball": _read_target,
    "box": _read_box,
    "doors": _read_doors,
    "rooms": _read_rooms,
    "lava": _read_lava,
    "hazard": _read_hazard,
    "obstacles": _read_obstacles,
    "lock": _read_lock,
    "ends": _read_ends,
    "aim": _read_aim,
    "object": _read_object,
    "wanted": _read_wanted,
    "two doors": _read_two_doors,
}
"""Blocks of features, and who reads them; ``minigrid_blocks`` says what they mean."""


def read_blocks(
    readers: tuple[Read, ...], env: Any, obs: Any, info: Mapping[str, Any]
) -> np.ndarray:
    """One feature row, ``(W,)`` float32, block after block."""
    x, y = env.agent_pos
    x, y, direction = int(x), int(y), int(env.agent_dir)
    right, down = FACING[direction]
    view = View(x, y, (x + right, y + down), direction)
    things = things_of(env)
    row: list[float] = []
    for read in readers:
        row.extend(read(env, things, view))
    return np.array(row, dtype=np.float32)
