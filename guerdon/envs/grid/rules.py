"""What an action does: MiniGrid's own step, and the rules by which levels differ.

An action's outcome is two numbers: the gain (1 won, -1 a collision, 0 otherwise) and
whether the episode ended. The limit of steps is not looked at here.

Reference: Farama MiniGrid, ``MiniGridEnv.step`` and the ``step`` of each level.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import (
    BEYOND_PICKABLE,
    BOX,
    DOOR_OPEN,
    EMPTY,
    FIRST_PICKABLE,
    GOAL,
    LAVA,
    NOTHING,
    toggled,
)
from guerdon.envs.grid.compiled import compiled, inlined
from guerdon.envs.grid.features import across_and_down, cell_ahead
from guerdon.envs.grid.levels.base import (
    FETCH,
    GO_TO,
    MEMORY,
    OBSTACLES,
    PICK_UP,
    PUT_NEAR,
    RED_BLUE,
    UNLOCK,
)
from guerdon.envs.grid.random import integer
from guerdon.envs.grid.state import (
    AIM_CELL,
    CARRIED,
    CARRYING,
    COUNT,
    DIRECTION,
    DOOR_CELL,
    GONE,
    KEY_CELL,
    LIST,
    OPENED,
    POSITION,
    RULE,
    TARGET_CELL,
    TRAP_CELL,
    WANTED,
    WIDTH,
)

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
ACTIONS = 7

_TRIES = 101
"""How often MiniGrid looks for a place to which an obstacle could move."""


@inlined
def move(cells: Any, numbers: Any, lane: Any, action: Any, params: Any) -> Any:
    """MiniGrid's own step, without any rule of a level.

    Args:
        cells: ``(N, H * W + 1)`` uint8.
        numbers: ``(K, N)`` int32.
        lane: which one.
        action: 0 to 6.
        params: of the level.

    Returns:
        The gain and whether the episode ended.
    """
    position, direction = numbers[POSITION, lane], numbers[DIRECTION, lane]
    front = cell_ahead(position, direction, params)
    code = cells[lane, front]
    if action > FORWARD:
        _use_hands(cells, numbers, lane, action, front, code)
        return 0, False
    # Turning and walking are written without branches, which would be guessed wrong.
    turn = 3 * int(action == LEFT) + int(action == RIGHT)
    numbers[DIRECTION, lane] = (direction + turn) & 3
    walks = int(action == FORWARD) & int(code >= EMPTY) & int(code < FIRST_PICKABLE)
    numbers[POSITION, lane] = position + walks * (front - position)
    won = walks & int(code >= GOAL) & int(code < GOAL + 6)
    return won, (won | (walks & int(code == LAVA))) > 0


@inlined
def _use_hands(
    cells: Any, numbers: Any, lane: Any, action: Any, front: Any, code: Any
) -> None:
    """Pick up, drop and toggle."""
    if action == PICKUP:
        held = numbers[CARRYING, lane]
        if FIRST_PICKABLE <= code < BEYOND_PICKABLE and held == NOTHING:
            _pick_up(cells, numbers, lane, front, code)
    elif action == DROP:
        if code == EMPTY and numbers[CARRYING, lane] != NOTHING:
            _drop(cells, numbers, lane, front)
    elif action == TOGGLE:
        _toggle(cells, numbers, lane, front, code)


@inlined
def _pick_up(cells: Any, numbers: Any, lane: Any, front: Any, code: Any) -> None:
    cells[lane, front] = EMPTY
    numbers[CARRYING, lane] = code
    if numbers[KEY_CELL, lane] == front:
        numbers[KEY_CELL, lane] = CARRIED
    if numbers[TARGET_CELL, lane] == front:
        numbers[TARGET_CELL, lane] = CARRIED


@inlined
def _drop(cells: Any, numbers: Any, lane: Any, front: Any) -> None:
    cells[lane, front] = numbers[CARRYING, lane]
    numbers[CARRYING, lane] = NOTHING
    if numbers[KEY_CELL, lane] == CARRIED:
        numbers[KEY_CELL, lane] = front
    if numbers[TARGET_CELL, lane] == CARRIED:
        numbers[TARGET_CELL, lane] = front


@inlined
def _toggle(cells: Any, numbers: Any, lane: Any, front: Any, code: Any) -> None:
    new = toggled(code, numbers[CARRYING, lane])
    if new == code:
        return
    cells[lane, front] = new
    if BOX <= code < BEYOND_PICKABLE:
        if numbers[TARGET_CELL, lane] == front:
            numbers[TARGET_CELL, lane] = GONE - front
    elif DOOR_OPEN <= new < DOOR_OPEN + 6:
        numbers[OPENED, lane] += 1
    else:
        numbers[OPENED, lane] -= 1


@inlined
def act(
    cells: Any, numbers: Any, seeds: Any, lane: Any, action: Any, params: Any
) -> Any:
    """One action in one lane, with the rule of its level.

    Args:
        cells: ``(N, H * W + 1)`` uint8.
        numbers: ``(K, N)`` int32.
        seeds: ``(N,)`` int64; only moving obstacles draw from them.
        lane: which one.
        action: 0 to 6.
        params: of the level.

    Returns:
        The gain and whether the episode ended.
    """
    rule = params[RULE]
    before = 0
    if rule > UNLOCK:
        action = _translate(rule, action)
        before = _before(cells, numbers, seeds, lane, action, params)
    gain, ended = move(cells, numbers, lane, action, params)
    if rule == PICK_UP:
        if action == PICKUP and numbers[TARGET_CELL, lane] == CARRIED:
            return 1, True
    elif rule == UNLOCK:
        if action == TOGGLE and _is_open(cells, lane, numbers[DOOR_CELL, lane]):
            return 1, True
    elif rule > UNLOCK:
        return _judge(cells, numbers, lane, action, params, before, gain, ended)
    return gain, ended


@inlined
def _translate(rule: Any, action: Any) -> Any:
    """The action that a level makes of an action."""
    if rule == MEMORY and action == PICKUP:
        return TOGGLE
    if rule == OBSTACLES and action > FORWARD:
        return LEFT
    return action


@compiled
def _before(
    cells: Any, numbers: Any, seeds: Any, lane: Any, action: Any, params: Any
) -> Any:
    """What a rule has to remember of the state before the action, in one number."""
    rule = params[RULE]
    if rule == RED_BLUE:
        red = int(_is_open(cells, lane, numbers[TRAP_CELL, lane]))
        return red + 2 * int(_is_open(cells, lane, numbers[AIM_CELL, lane]))
    if rule == OBSTACLES:
        front = cell_ahead(numbers[POSITION, lane], numbers[DIRECTION, lane], params)
        code = cells[lane, front]
        state = numbers[:, lane]
        for index in range(numbers[COUNT, lane]):
            _roll(cells[lane], state, seeds[lane], LIST + index, params[WIDTH])
        blocked = code != EMPTY and not GOAL <= code < GOAL + 6
        return int(blocked and action == FORWARD)
    return int(numbers[CARRYING, lane])


@compiled
def _judge(
    cells: Any, numbers: Any, lane: Any, action: Any, params: Any, before: Any,
    gain: Any, ended: Any,
) -> Any:  # fmt: skip
    """The outcome by the rule, after the agent moved."""
    rule = params[RULE]
    held = numbers[CARRYING, lane]
    if rule == FETCH and held != NOTHING:
        return (1 if held == numbers[WANTED, lane] else 0), True
    if rule == GO_TO:
        if action == DONE and _beside(numbers, lane, params):
            return 1, True
        return gain, ended or action in (TOGGLE, DONE)
    if rule == PUT_NEAR:
        if action == PICKUP and held != NOTHING:
            return gain, ended or held != numbers[WANTED, lane]
        if action == DROP and before != NOTHING:
            # The thing lies ahead now, unless it could not be dropped.
            placed = held == NOTHING and _put_near(numbers, lane, params)
            return (1 if placed else gain), True
    if rule == RED_BLUE:
        if _is_open(cells, lane, numbers[AIM_CELL, lane]):
            return (1 if before & 1 else 0), True
        if before & 2 and _is_open(cells, lane, numbers[TRAP_CELL, lane]):
            return 0, True
    if rule == MEMORY:
        if numbers[POSITION, lane] == numbers[TRAP_CELL, lane]:
            return 0, True
        if numbers[POSITION, lane] == numbers[AIM_CELL, lane]:
            return 1, True
    if rule == OBSTACLES and before:
        return -1, True
    return gain, ended


@inlined
def _is_open(cells: Any, lane: Any, door: Any) -> Any:
    return DOOR_OPEN <= cells[lane, door] < DOOR_OPEN + 6


@inlined
def _beside(numbers: Any, lane: Any, params: Any) -> Any:
    """Whether the agent stands beside ``AIM_CELL``."""
    position, aim = numbers[POSITION, lane], numbers[AIM_CELL, lane]
    x, y = across_and_down(position, aim, params)
    return abs(x) + abs(y) == 1


@inlined
def _put_near(numbers: Any, lane: Any, params: Any) -> Any:
    """Whether the cell ahead touches ``AIM_CELL``, corners included."""
    ahead = cell_ahead(numbers[POSITION, lane], numbers[DIRECTION, lane], params)
    x, y = across_and_down(ahead, numbers[AIM_CELL, lane], params)
    return abs(x) <= 1 and abs(y) <= 1


@compiled
def _roll(cells: Any, state: Any, seed: Any, row: Any, width: Any) -> None:
    """Move one obstacle to a free cell around it, if chance finds one in time."""
    old = state[row]
    left, top = old % width - 1, old // width - 1
    for _ in range(_TRIES):
        x = integer(state, seed, left, left + 3)
        cell = integer(state, seed, top, top + 3) * width + x
        if cells[cell] == EMPTY and cell != state[POSITION]:
            cells[cell] = cells[old]
            cells[old] = EMPTY
            state[row] = cell
            return
