"""The grid engine in tensors: what its compiled code is held against.

Rules, features and images are written a second time here, in the words of MiniGrid and
without the tricks of the compiled code. Every array of every step must be equal, byte
for byte. This is also what runs where numba is missing, tens to hundreds of times
slower; levels are then made by the same generators, as plain Python.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from guerdon.envs.grid.cells import (
    BEYOND_PICKABLE,
    BOX,
    CODES,
    DOOR_OPEN,
    EMPTY,
    GOAL,
    LAVA,
    NOTHING,
    PICKABLE,
    WALKABLE,
    toggled,
)
from guerdon.envs.grid.engine import GridEngine, Kernels
from guerdon.envs.grid.kernel import REFUSED
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
from guerdon.envs.grid.oracle_show import Lanes, feature_rows, images, near
from guerdon.envs.grid.random import WORD, philox
from guerdon.envs.grid.rules import (
    ACTIONS,
    DONE,
    DROP,
    FORWARD,
    LEFT,
    PICKUP,
    RIGHT,
    TOGGLE,
)
from guerdon.envs.grid.state import (
    AIM_CELL,
    AUTORESET,
    CARRIED,
    CARRYING,
    DIRECTION,
    DOOR_CELL,
    DRAWS,
    EPISODE,
    GONE,
    HORIZON,
    KEY_CELL,
    LENGTH,
    LIST,
    LISTED,
    NEXT_STEP,
    OPENED,
    OVER,
    POSITION,
    RULE,
    SAME_STEP,
    STEPS,
    TARGET_CELL,
    TRAP_CELL,
    WANTED,
    WIDTH,
)

_TRIES = 101
"""How often MiniGrid looks for a place to which an obstacle could move."""

_words = getattr(philox, "py_func", philox)
"""The generator as plain Python: its lines also hold for tensors of 64 bits."""


def _is(code: Tensor, first: int, count: int = 6) -> Tensor:
    """Whether a code is one of ``count`` from ``first`` on."""
    return (code >= first) & (code < first + count)


@cache
def _tables() -> tuple[Tensor, Tensor, Tensor]:
    """What can be walked on, picked up, and what toggling makes of it.

    Returns:
        ``(CODES,)`` bool, ``(CODES,)`` bool and ``(CODES, BEYOND_PICKABLE)`` int64, the
        last one by the code of the cell and of what the agent carries.
    """
    plain = getattr(toggled, "py_func", toggled)
    after = [[plain(c, held) for held in range(BEYOND_PICKABLE)] for c in range(CODES)]
    return torch.tensor(WALKABLE), torch.tensor(PICKABLE), torch.tensor(after)


def draw(lanes: Lanes, low: Tensor, number: int, where: Tensor) -> Tensor:
    """Random integers from ``low`` on, below ``low + number``.

    Args:
        lanes: whose numbers; their counts of draws go up.
        low: ``(n,)`` int64.
        number: of values.
        where: ``(n,)`` bool, which lanes draw; elsewhere the result is ``low``.

    Returns:
        ``(n,)`` int64.
    """
    excess = 2**32 % number
    key = lanes.seeds & WORD, (lanes.seeds >> 32) & WORD
    result, waiting = torch.zeros_like(low), where.clone()
    while waiting.any():
        draws = lanes.get(DRAWS)
        word = _words(*key, draws & WORD, lanes.get(EPISODE) & WORD, 0, 0)[0]
        product = word * number
        lanes.put(DRAWS, draws + 1, waiting)
        fits = waiting & (product % 2**32 >= excess)
        result = torch.where(fits, product // 2**32, result)
        waiting &= ~fits
    return low + result


def roll(lanes: Lanes, row: int, where: Tensor) -> None:
    """Move the obstacle of one row to a free cell around it, by chance."""
    width = lanes.params[WIDTH]
    old = lanes.get(row)
    left, top = old % width - 1, old // width - 1
    waiting = where.clone()
    for _ in range(_TRIES):
        if not waiting.any():
            return
        x = draw(lanes, left, 3, waiting)
        cell = draw(lanes, top, 3, waiting) * width + x
        free = (lanes.code(cell) == EMPTY) & (cell != lanes.get(POSITION))
        moves = waiting & free
        lanes.lay(cell, lanes.code(old), moves)
        lanes.lay(old, torch.full_like(old, EMPTY), moves)
        lanes.put(row, cell, moves)
        waiting &= ~moves


def move(lanes: Lanes, action: Tensor, plays: Tensor) -> tuple[Tensor, Tensor]:
    """MiniGrid's own step, without any rule of a level.

    Args:
        lanes: what changes.
        action: ``(n,)`` int64, 0 to 6.
        plays: ``(n,)`` bool, which lanes take it.

    Returns:
        The gain, ``(n,)`` int64, and whether the episode ended, ``(n,)`` bool.
    """
    walkable, pickable, after = _tables()
    front, held, direction = lanes.ahead(), lanes.get(CARRYING), lanes.get(DIRECTION)
    code = lanes.code(front)
    lanes.put(DIRECTION, (direction - 1) % 4, plays & (action == LEFT))
    lanes.put(DIRECTION, (direction + 1) % 4, plays & (action == RIGHT))
    walks = plays & (action == FORWARD) & walkable[code]
    lanes.put(POSITION, front, walks)

    picks = plays & (action == PICKUP) & pickable[code] & (held == NOTHING)
    lanes.lay(front, torch.full_like(code, EMPTY), picks)
    lanes.put(CARRYING, code, picks)
    drops = plays & (action == DROP) & (code == EMPTY) & (held != NOTHING)
    lanes.lay(front, held, drops)
    lanes.put(CARRYING, torch.full_like(held, NOTHING), drops)
    for row in (KEY_CELL, TARGET_CELL):
        mark = lanes.get(row)
        lanes.put(row, torch.full_like(mark, CARRIED), picks & (mark == front))
        lanes.put(row, front, drops & (mark == CARRIED))

    new = after[code, held]
    changes = plays & (action == TOGGLE) & (new != code)
    lanes.lay(front, new, changes)
    boxes = changes & (code >= BOX) & (code < BEYOND_PICKABLE)
    lanes.put(TARGET_CELL, GONE - front, boxes & (lanes.get(TARGET_CELL) == front))
    opens = torch.where(_is(new, DOOR_OPEN), 1, -1)
    lanes.put(OPENED, lanes.get(OPENED) + opens, changes & ~boxes)

    won = walks & _is(code, GOAL)
    return won.long(), won | (walks & (code == LAVA))


def act(lanes: Lanes, action: Tensor, plays: Tensor) -> tuple[Tensor, Tensor]:
    """One action with the rule of the level; see ``move``."""
    rule = lanes.params[RULE]
    if rule == MEMORY:
        action = torch.where(action == PICKUP, TOGGLE, action)
    if rule == OBSTACLES:
        action = torch.where(action > FORWARD, LEFT, action)
        code = lanes.code(lanes.ahead())
        blocked = (code != EMPTY) & ~_is(code, GOAL) & (action == FORWARD)
        for index in range(lanes.params[LISTED]):
            roll(lanes, LIST + index, plays)
        gain, ended = move(lanes, action, plays)
        return torch.where(blocked, -1, gain), ended | blocked
    held = lanes.get(CARRYING)
    red, blue = _opened(lanes, TRAP_CELL), _opened(lanes, AIM_CELL)
    gain, ended = move(lanes, action, plays)
    if rule == RED_BLUE:
        won = _opened(lanes, AIM_CELL)
        lost = ~won & blue & _opened(lanes, TRAP_CELL)
        gain = torch.where(won, red.long(), torch.where(lost, 0, gain))
        return gain, ended | won | lost
    if rule == PUT_NEAR:
        return _put_near(lanes, action, held, gain, ended)
    won, over = _judge(lanes, rule, action)
    gain = torch.where(won, 1, torch.where(over, 0, gain))
    return gain, ended | won | over


def _opened(lanes: Lanes, row: int) -> Tensor:
    """Whether the door of a mark is open; False for a level without that mark."""
    cell = lanes.get(row)
    return (cell >= 0) & _is(lanes.code(cell.clamp(min=0)), DOOR_OPEN)


def _judge(lanes: Lanes, rule: int, action: Tensor) -> tuple[Tensor, Tensor]:
    """Whether an episode is won, and whether it ends without that, after a move."""
    position, held = lanes.get(POSITION), lanes.get(CARRYING)
    never = torch.zeros_like(position, dtype=torch.bool)
    if rule == PICK_UP:
        return (action == PICKUP) & (lanes.get(TARGET_CELL) == CARRIED), never
    if rule == UNLOCK:
        return (action == TOGGLE) & _opened(lanes, DOOR_CELL), never
    if rule == FETCH:
        right = held == lanes.get(WANTED)
        return (held != NOTHING) & right, (held != NOTHING) & ~right
    if rule == GO_TO:
        right, down = lanes.apart(position, lanes.get(AIM_CELL))
        won = (action == DONE) & (right.abs() + down.abs() == 1)
        return won, ~won & ((action == TOGGLE) | (action == DONE))
    if rule == MEMORY:
        return position == lanes.get(AIM_CELL), position == lanes.get(TRAP_CELL)
    return never, never


def _put_near(
    lanes: Lanes, action: Tensor, before: Tensor, gain: Tensor, ended: Tensor
) -> tuple[Tensor, Tensor]:
    """Won by dropping what was wanted near the aim; ``before`` was carried."""
    held = lanes.get(CARRYING)
    wrong = (action == PICKUP) & (held != NOTHING) & (held != lanes.get(WANTED))
    dropped = (action == DROP) & (before != NOTHING)
    close = near(lanes, lanes.ahead(), lanes.get(AIM_CELL))
    won = dropped & (held == NOTHING) & close
    return torch.where(won, 1, gain), ended | wrong | dropped


def step(
    actions: Any, cells: Any, numbers: Any, seeds: Any, params: Any, table: Any,
    fresh: Any, obs: Any, final_obs: Any, reward: Any, terminated: Any, truncated: Any,
    features: Any, first: Any, fitness: Any, success: Any, low: int, high: int,
) -> int:  # fmt: skip
    """``kernel.step`` in tensors: the same arguments, results and changes."""
    if ((actions < 0) | (actions >= ACTIONS)).any():
        return REFUSED
    lanes = Lanes(cells, numbers, seeds, params, low, high)
    mode = lanes.params[AUTORESET]
    plays = (lanes.get(OVER) == 0) | (mode != NEXT_STEP)
    gain, ended = act(lanes, torch.tensor(actions[low:high]), plays)
    steps = lanes.get(STEPS) + 1
    lanes.put(STEPS, steps, plays)
    horizon = lanes.params[HORIZON]
    late, ended = plays & (steps >= horizon), plays & ended
    won = 1.0 - 0.9 * (steps.double() / horizon)
    value = torch.where(plays, torch.where(gain > 0, won, gain.double()), 0.0)
    over = late | ended
    lanes.put(LENGTH, steps, over)
    lanes.put(OVER, torch.ones_like(steps), over)
    renewed = ~plays | (over & (mode == SAME_STEP))
    lanes.put(EPISODE, lanes.get(EPISODE) + 1, renewed)

    image, row = images(lanes), feature_rows(lanes)
    stays = ~renewed
    for array, values, where in (
        (features, row, plays), (first, row, stays), (obs, image, stays),
        (final_obs, image, over), (reward, value, None), (fitness, value, None),
        (success, value > 0, None), (terminated, ended, None),
        (truncated, late, None), (fresh, renewed, None),
    ):  # fmt: skip
        _write(array, values, where, low, high)
    return int(renewed.sum())


def _write(
    array: Any, values: Tensor, where: Tensor | None, low: int, high: int
) -> None:
    """Put values into the rows of an array, all of them or those that are named."""
    target = torch.from_numpy(array[low:high])
    chosen = slice(None) if where is None else where
    target[chosen] = values[chosen].to(target.dtype)


def show(
    lanes: Any, cells: Any, numbers: Any, params: Any, table: Any, obs: Any,
    features: Any, low: int, high: int,
) -> None:  # fmt: skip
    """``kernel.show`` in tensors: the same arguments and results."""
    where = torch.from_numpy(lanes[low:high]) != 0
    if where.any():
        # No seed is looked at by what only shows.
        shown = Lanes(cells, numbers, None, params, low, high)
        _write(obs, images(shown), where, low, high)
        _write(features, feature_rows(shown), where, low, high)


def _nothing_needed() -> None:
    """Tensors need no compiler."""


class TorchGridEngine(GridEngine):
    """``GridEngine`` with its steps, features and images in tensors on the CPU.

    The arguments, the methods and every number are those of ``GridEngine``. It is slow
    and needs no numba.
    """

    kernels = Kernels(_nothing_needed, step, show)
