"""Between MiniGrid's objects and the engine's arrays.

``load_minigrid`` puts any instance of a supported level into a lane, in the middle of
an episode too; ``minigrid_of`` makes an instance of a lane, to draw it with MiniGrid's
own code. Neither imports ``minigrid`` before it is called.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from guerdon.envs.grid.cells import (
    AGENT,
    BOX,
    COLOURS,
    EMPTY,
    ENCODING,
    GREY_WALL,
    NOTHING,
    code_of,
    content_of,
)
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.levels.base import (
    FETCH,
    GO_TO,
    MEMORY,
    OBSTACLES,
    PICK_UP,
    PUT_NEAR,
    RED_BLUE,
    UNLOCK,
    Level,
)
from guerdon.envs.grid.state import (
    ACROSS,
    AIM_CELL,
    CARRIED,
    CARRYING,
    COUNT,
    DIRECTION,
    DOOR_CELL,
    GAP_CELL,
    GOAL_CELL,
    GONE,
    KEY_CELL,
    LIST,
    MARKS,
    MISSION,
    NOWHERE,
    OPENED,
    OVER,
    POSITION,
    ROOM_COUNT,
    STEPS,
    TARGET_CELL,
    TRAP_CELL,
    WANTED,
)
from guerdon.envs.minigrid_features import Things, things_of
from guerdon.extras import require


def code_of_thing(thing: Any) -> int:
    """The code of an object of MiniGrid, ``EMPTY`` for None.

    Raises:
        ValueError: for an object that has no code, such as a box with a ball in it.
    """
    if thing is None:
        return EMPTY
    content = getattr(thing, "contains", None)
    inside = NOTHING if content is None else code_of_thing(content)
    state = int(thing.encode()[2])
    return code_of(thing.type, thing.color, state, inside)


def load_minigrid(engine: GridEngine, lane: int, env: Any) -> None:
    """Put an instance of MiniGrid into a lane: grid, agent, steps, mission and marks.

    The seed, the episode and the count of draws of the lane stay as they are. One thing
    cannot be known where no features of the environment were read before: a box that
    PutNear wants moved, and that was toggled away, leaves no trace of where it was.

    Args:
        engine: of the same level.
        lane: which one.
        env: the environment, wrapped or not, after a reset.

    Raises:
        ValueError: for another size or time limit, a mission that the level does not
            have, or a thing that has no code.
    """
    raw = env.unwrapped
    level = engine.level
    own = (level.width, level.height, level.horizon)
    given = (raw.grid.width, raw.grid.height, raw.max_steps)
    if own != given:
        raise ValueError(
            f"{level.name}: expected columns, rows and max_steps {own}, got {given}"
        )
    if not 0 <= lane < engine.num_envs:
        raise ValueError(f"lane: expected 0 to {engine.num_envs - 1}, got {lane}")
    codes = [code_of_thing(thing) for thing in raw.grid.grid]
    engine.state.cells[lane] = [*codes, GREY_WALL]
    numbers = engine.state.numbers[:, lane]
    x, y = raw.agent_pos
    numbers[POSITION] = int(y) * level.width + int(x)
    numbers[DIRECTION] = raw.agent_dir
    held = raw.carrying
    numbers[CARRYING] = NOTHING if held is None else code_of_thing(held)
    numbers[STEPS] = raw.step_count
    numbers[OVER] = 0
    numbers[MISSION : MISSION + 4] = mission_numbers(level, raw.mission)
    _mark(numbers, raw, level)


def mission_numbers(level: Level, text: str) -> tuple[int, int, int, int]:
    """The numbers of a mission's text.

    Raises:
        ValueError: when it is no mission of the level.
    """
    try:
        return _missions(level)[text]
    except KeyError:
        raise ValueError(f"{level.name}: it has no mission {text!r}") from None


@cache
def _missions(level: Level) -> dict[str, tuple[int, int, int, int]]:
    return {text: numbers for numbers, text in level.missions()}


def _mark(numbers: Any, raw: Any, level: Level) -> None:
    """Set every mark of a lane."""
    numbers[MARKS:] = NOWHERE
    things = things_of(raw)
    numbers[KEY_CELL] = _place(raw, things.key)
    if things.goal is not None:
        numbers[GOAL_CELL] = _cell(raw, things.goal)
    if things.door is not None:
        numbers[DOOR_CELL] = _cell(raw, (things.door.x, things.door.y))
    numbers[OPENED] = sum(door.thing.is_open for door in things.doors)
    numbers[COUNT] = numbers[ROOM_COUNT] = 0
    if "lava" in level.blocks:
        gap_x, gap_y, numbers[ACROSS] = things.gap
        numbers[GAP_CELL] = _cell(raw, (gap_x, gap_y))
    if "rooms" in level.blocks:
        _mark_rooms(numbers, raw, level, things)
    _mark_rule(numbers, raw, level)


def _mark_rule(numbers: Any, raw: Any, level: Level) -> None:
    """Set the marks that the rule of the level asks for."""
    if level.rule == PICK_UP:
        numbers[TARGET_CELL] = _place(raw, raw.obj)
    elif level.rule == UNLOCK:
        numbers[DOOR_CELL] = _cell(raw, raw.door.cur_pos)
    elif level.rule == FETCH:
        numbers[WANTED] = code_of(raw.targetType, raw.targetColor)
    elif level.rule == GO_TO:
        numbers[AIM_CELL] = _cell(raw, raw.target_pos)
    elif level.rule == PUT_NEAR:
        numbers[WANTED] = code_of(raw.move_type, raw.moveColor)
        numbers[TARGET_CELL] = _place(raw, things_of(raw).target)
        numbers[AIM_CELL] = _cell(raw, raw.target_pos)
    elif level.rule == RED_BLUE:
        for mark, door in ((TRAP_CELL, raw.red_door), (AIM_CELL, raw.blue_door)):
            numbers[mark] = next(
                cell for cell, thing in enumerate(raw.grid.grid) if thing is door
            )
    elif level.rule == MEMORY:
        numbers[AIM_CELL] = _cell(raw, raw.success_pos)
        numbers[TRAP_CELL] = _cell(raw, raw.failure_pos)
    elif level.rule == OBSTACLES:
        places = [_cell(raw, ball.cur_pos) for ball in raw.obstacles]
        numbers[COUNT] = len(places)
        numbers[LIST : LIST + len(places)] = places


def _mark_rooms(numbers: Any, raw: Any, level: Level, things: Things) -> None:
    doors = [_cell(raw, (door.x, door.y)) for door in things.doors]
    numbers[COUNT] = len(doors)
    numbers[LIST : LIST + len(doors)] = doors
    numbers[ROOM_COUNT] = len(raw.rooms)
    first = LIST + level.listed
    for index, room in enumerate(raw.rooms):
        numbers[first + 4 * index : first + 4 * index + 4] = (*room.top, *room.size)


def _cell(raw: Any, place: Any) -> int:
    return int(place[1]) * int(raw.grid.width) + int(place[0])


def _place(raw: Any, thing: Any) -> int:
    """The mark of a thing that can be carried or destroyed."""
    if thing is None:
        return NOWHERE
    if raw.carrying is thing:
        return CARRIED
    # Searched for: several levels put things down without telling them where.
    for cell, other in enumerate(raw.grid.grid):
        if other is thing:
            return cell
    return GONE - _cell(raw, thing.cur_pos)


def thing_of(code: int) -> Any:
    """A new object of MiniGrid for a code, None for an empty cell.

    Raises:
        guerdon.extras.MissingExtra: when ``minigrid`` is not installed.
    """
    objects = require("minigrid.core.world_object", "minigrid")
    kind, colour, state = (int(number) for number in ENCODING[code])
    thing = objects.WorldObj.decode(kind, colour, state)
    if thing is not None and thing.type == "goal":
        thing.color = COLOURS[colour]
    if BOX <= code < AGENT and content_of(code) != NOTHING:
        thing.contains = thing_of(content_of(code))
    return thing


def minigrid_of(engine: GridEngine, lane: int = 0, **attributes: Any) -> Any:
    """An instance of MiniGrid that looks like a lane; to draw, not to play.

    Args:
        engine: whose lane.
        lane: which one.
        attributes: of ``MiniGridEnv`` that differ from its defaults, such as
            ``tile_size``.

    Raises:
        guerdon.extras.MissingExtra: when ``minigrid`` is not installed.
    """
    base = require("minigrid.minigrid_env", "minigrid").MiniGridEnv
    # Its constructor would want a space of missions, and draw one.
    raw = base.__new__(base)
    size = engine.observation_space.shape[0] if engine.view else 7
    raw.__dict__.update(
        width=engine.level.width, height=engine.level.height, screen_size=640,
        render_size=None, window=None, clock=None, render_mode="rgb_array",
        highlight=True, tile_size=32, agent_pov=False, agent_view_size=size,
        see_through_walls=engine.level.through, max_steps=engine.level.horizon,
    )  # fmt: skip
    raw.__dict__.update(attributes)
    return show_lane(raw, engine, lane)


def show_lane(raw: Any, engine: GridEngine, lane: int) -> Any:
    """Let an instance of ``minigrid_of`` look like a lane as it is now."""
    grid = require("minigrid.core.grid", "minigrid").Grid
    cells, numbers = engine.state.cells[lane], engine.state.numbers[:, lane]
    width = engine.level.width
    raw.grid = grid(width, engine.level.height)
    raw.grid.grid = [thing_of(int(code)) for code in cells[:-1]]
    y, x = divmod(int(numbers[POSITION]), width)
    raw.agent_pos, raw.agent_dir = np.array((x, y)), int(numbers[DIRECTION])
    held = int(numbers[CARRYING])
    raw.carrying = None if held == NOTHING else thing_of(held)
    raw.step_count = int(numbers[STEPS])
    raw.mission = engine.mission(lane)
    return raw
